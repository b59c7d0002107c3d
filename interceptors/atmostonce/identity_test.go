package atmostonce_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

const (
	// someID and otherID are 128 bits as text.
	someID  = "AAAAAAAAAAAAAAAAAAAAAQ"
	otherID = "_-8AAAAAAAAAAAAAAAAAAg"
	zeroID  = "AAAAAAAAAAAAAAAAAAAAAA"
)

// malformed are values of the identity's key that are no identity, for a server
// of an incarnation.
func malformed(incarnation string) map[string][]string {
	good := incarnation + "." + otherID + ".1"
	one := func(value string) []string { return []string{value} }
	return map[string][]string{
		"two different identities":           {good, incarnation + "." + otherID + ".2"},
		"doubled":                            {good, good},
		"joined by a comma":                  one(good + "," + good),
		"joined by a comma and a space":      one(good + ", " + good),
		"with a comma at the end":            one(good + ","),
		"empty":                              one(""),
		"only dots":                          one(".."),
		"only spaces":                        one("   "),
		"two of three parts":                 one(incarnation + "." + otherID),
		"four parts":                         one(good + ".1"),
		"no number":                          one(incarnation + "." + otherID + "."),
		"cut short in the session":           one(good[:30]),
		"cut short by one":                   one(incarnation + "." + otherID[1:] + ".1"),
		"an incarnation cut short":           one(incarnation[1:] + "." + otherID + ".1"),
		"an incarnation too long":            one("A" + incarnation + "." + otherID + ".1"),
		"a session too long":                 one(incarnation + "." + otherID + "A.1"),
		"a zero incarnation":                 one(zeroID + "." + otherID + ".1"),
		"a zero session":                     one(incarnation + "." + zeroID + ".1"),
		"number zero":                        one(incarnation + "." + otherID + ".0"),
		"a number with a plus":               one(incarnation + "." + otherID + ".+1"),
		"a number with a minus":              one(incarnation + "." + otherID + ".-1"),
		"a number padded with a zero":        one(incarnation + "." + otherID + ".01"),
		"a hexadecimal number":               one(incarnation + "." + otherID + ".0x1"),
		"hexadecimal digits":                 one(incarnation + "." + otherID + ".1f"),
		"a number with an exponent":          one(incarnation + "." + otherID + ".1e3"),
		"a number with a point":              one(incarnation + "." + otherID + ".1.0"),
		"a number with an underscore":        one(incarnation + "." + otherID + ".1_0"),
		"a number with a grouping comma":     one(incarnation + "." + otherID + ".1,000"),
		"2^64":                               one(incarnation + "." + otherID + ".18446744073709551616"),
		"ten times 2^64":                     one(incarnation + "." + otherID + ".99999999999999999999"),
		"a number of 21 digits":              one(incarnation + "." + otherID + ".100000000000000000000"),
		"digits of another script":           one(incarnation + "." + otherID + ".\u0661"),
		"of great length":                    one(strings.Repeat("A", 8000)),
		"base64 of the other alphabet":       one(incarnation + ".+/8AAAAAAAAAAAAAAAAAAg.1"),
		"padded base64":                      one(incarnation + ".AAAAAAAAAAAAAAAAAAAAAg==.1"),
		"padding in place of characters":     one(incarnation + ".AAAAAAAAAAAAAAAAAAAA==.1"),
		"bits after the 128":                 one(incarnation + ".AAAAAAAAAAAAAAAAAAAAAB.1"),
		"a line break in the session":        one(incarnation + ".AAAAAAAAAAAAAAAAAAAAA\n.1"),
		"a carriage return":                  one(incarnation + ".AAAAAAAAAAAAAAAAAAAAA\r.1"),
		"line breaks beside a whole session": one(incarnation + ".\r\n" + otherID[2:] + ".1"),
		"a line break at the end":            one(good + "\n"),
		"a space in front":                   one(" " + good),
		"a space at the end":                 one(good + " "),
		"a space in front of the number":     one(incarnation + "." + otherID + ". 1"),
		"a tab at the end":                   one(good + "\t"),
		"a zero byte at the end":             one(good + "\x00"),
		"other separators":                   one(incarnation + ":" + otherID + ":1"),
		"the parts in another order":         one("1." + otherID + "." + incarnation),
	}
}

func TestAnIdentityIsReadBackFromItsText(t *testing.T) {
	t.Parallel()
	for _, seq := range []uint64{1, 9, 10, 1 << 32, math.MaxUint64 - 1, math.MaxUint64} {
		identity := atmostonce.Identity{
			Incarnation: discovery.NewIncarnation(),
			Session:     atmostonce.NewSession(time.Now()),
			Seq:         seq,
		}
		if got, err := atmostonce.ParseIdentity(identity.Value()); err != nil || got != identity {
			t.Errorf("ParseIdentity(%q) = %v, %v; want %v", identity.Value(), got, err, identity)
		}
	}
}

func TestAMalformedIdentityIsNotRead(t *testing.T) {
	t.Parallel()
	for title, values := range malformed(someID) {
		if len(values) != 1 {
			continue
		}
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			got, err := atmostonce.ParseIdentity(values[0])
			if err == nil || got != (atmostonce.Identity{}) {
				t.Fatalf("ParseIdentity(%q) = %v, %v; want an error", values[0], got, err)
			}
			if strings.Contains(err.Error(), otherID) {
				t.Errorf("the error tells the session: %v", err)
			}
		})
	}
}

func TestASessionSaysWhenItWasCreatedAndHidesWhatItIs(t *testing.T) {
	t.Parallel()
	for _, created := range []time.Time{time.UnixMilli(0), time.UnixMilli(1_772_366_400_123), time.UnixMilli(1<<48 - 1)} {
		session := atmostonce.NewSession(created)
		if !session.Created().Equal(created) {
			t.Errorf("Created = %v, want %v", session.Created(), created)
		}
		if session[6]>>4 != 7 || session[8]>>6 != 2 {
			t.Errorf("%x is no UUIDv7", session[:])
		}
		identity := atmostonce.Identity{Incarnation: discovery.Incarnation{1}, Session: session, Seq: 1}
		secret := strings.Split(identity.Value(), ".")[1]
		if text := identity.String() + session.String(); strings.Contains(text, secret) {
			t.Errorf("%s tells the session", text)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add(someID + "." + otherID + ".1")
	f.Add(someID + "." + otherID + ".18446744073709551615")
	for _, values := range malformed(someID) {
		f.Add(values[0])
	}
	f.Fuzz(func(t *testing.T, value string) {
		identity, err := atmostonce.ParseIdentity(value)
		switch {
		case err != nil && identity != (atmostonce.Identity{}):
			t.Errorf("%q gives %v with the error %v", value, identity, err)
		case err == nil && identity.Value() != value:
			t.Errorf("%q is read as %q", value, identity.Value())
		case err == nil && (identity.Seq == 0 || identity.Incarnation.IsZero() || identity.Session == atmostonce.Session{}):
			t.Errorf("%q gives %v, with a part that is zero", value, identity)
		}
	})
}
