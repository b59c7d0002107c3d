package atmostonce_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/internal/malformed"
)

// someID is 128 bits as text.
const someID = "AAAAAAAAAAAAAAAAAAAAAQ"

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
	for title, values := range malformed.Identities(someID) {
		if len(values) != 1 {
			continue
		}
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			got, err := atmostonce.ParseIdentity(values[0])
			if err == nil || got != (atmostonce.Identity{}) {
				t.Fatalf("ParseIdentity(%q) = %v, %v; want an error", values[0], got, err)
			}
			if strings.Contains(err.Error(), malformed.Session) {
				t.Errorf("the error shows the session: %v", err)
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
			t.Errorf("%s shows the session", text)
		}
	}
}

func FuzzParseIdentity(f *testing.F) {
	f.Add(someID + "." + malformed.Session + ".1")
	f.Add(someID + "." + malformed.Session + ".18446744073709551615")
	for _, values := range malformed.Identities(someID) {
		f.Add(values[0])
	}
	f.Fuzz(func(t *testing.T, value string) {
		identity, err := atmostonce.ParseIdentity(value)
		switch {
		case err != nil && identity != (atmostonce.Identity{}):
			t.Errorf("%q parses as %v with the error %v", value, identity, err)
		case err == nil && identity.Value() != value:
			t.Errorf("%q is read as %q", value, identity.Value())
		case err == nil && (identity.Seq == 0 || identity.Incarnation.IsZero() || identity.Session == atmostonce.Session{}):
			t.Errorf("%q parses as %v, with a part that is zero", value, identity)
		}
	})
}
