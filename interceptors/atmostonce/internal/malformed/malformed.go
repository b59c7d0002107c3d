// Package malformed has values that are not an identity, for the tests of the
// parser and of the server.
package malformed

import "strings"

// Session is the session of the values that have one.
const Session = "_-8AAAAAAAAAAAAAAAAAAg"

const zero = "AAAAAAAAAAAAAAAAAAAAAA"

// Identities returns values of the metadata key of the identity that are not an
// identity, for a server of an incarnation.
func Identities(incarnation string) map[string][]string {
	good := incarnation + "." + Session + ".1"
	one := func(value string) []string { return []string{value} }
	return map[string][]string{
		"two different identities":           {good, incarnation + "." + Session + ".2"},
		"doubled":                            {good, good},
		"joined by a comma":                  one(good + "," + good),
		"joined by a comma and a space":      one(good + ", " + good),
		"with a comma at the end":            one(good + ","),
		"empty":                              one(""),
		"only dots":                          one(".."),
		"only spaces":                        one("   "),
		"two of three parts":                 one(incarnation + "." + Session),
		"four parts":                         one(good + ".1"),
		"no number":                          one(incarnation + "." + Session + "."),
		"cut short in the session":           one(good[:30]),
		"cut short by one":                   one(incarnation + "." + Session[1:] + ".1"),
		"an incarnation cut short":           one(incarnation[1:] + "." + Session + ".1"),
		"an incarnation too long":            one("A" + incarnation + "." + Session + ".1"),
		"a session too long":                 one(incarnation + "." + Session + "A.1"),
		"a zero incarnation":                 one(zero + "." + Session + ".1"),
		"a zero session":                     one(incarnation + "." + zero + ".1"),
		"number zero":                        one(incarnation + "." + Session + ".0"),
		"a number with a plus":               one(incarnation + "." + Session + ".+1"),
		"a number with a minus":              one(incarnation + "." + Session + ".-1"),
		"a number padded with a zero":        one(incarnation + "." + Session + ".01"),
		"a hexadecimal number":               one(incarnation + "." + Session + ".0x1"),
		"hexadecimal digits":                 one(incarnation + "." + Session + ".1f"),
		"a number with an exponent":          one(incarnation + "." + Session + ".1e3"),
		"a number with a point":              one(incarnation + "." + Session + ".1.0"),
		"a number with an underscore":        one(incarnation + "." + Session + ".1_0"),
		"a number with a grouping comma":     one(incarnation + "." + Session + ".1,000"),
		"2^64":                               one(incarnation + "." + Session + ".18446744073709551616"),
		"ten times 2^64":                     one(incarnation + "." + Session + ".99999999999999999999"),
		"a number of 21 digits":              one(incarnation + "." + Session + ".100000000000000000000"),
		"digits of another script":           one(incarnation + "." + Session + ".\u0661"),
		"of great length":                    one(strings.Repeat("A", 8000)),
		"base64 of the other alphabet":       one(incarnation + ".+/8AAAAAAAAAAAAAAAAAAg.1"),
		"padded base64":                      one(incarnation + ".AAAAAAAAAAAAAAAAAAAAAg==.1"),
		"padding in place of characters":     one(incarnation + ".AAAAAAAAAAAAAAAAAAAA==.1"),
		"bits after the 128":                 one(incarnation + ".AAAAAAAAAAAAAAAAAAAAAB.1"),
		"a line break in the session":        one(incarnation + ".AAAAAAAAAAAAAAAAAAAAA\n.1"),
		"a carriage return":                  one(incarnation + ".AAAAAAAAAAAAAAAAAAAAA\r.1"),
		"line breaks beside a whole session": one(incarnation + ".\r\n" + Session[2:] + ".1"),
		"a line break at the end":            one(good + "\n"),
		"a space in front":                   one(" " + good),
		"a space at the end":                 one(good + " "),
		"a space in front of the number":     one(incarnation + "." + Session + ". 1"),
		"a tab at the end":                   one(good + "\t"),
		"a zero byte at the end":             one(good + "\x00"),
		"other separators":                   one(incarnation + ":" + Session + ":1"),
		"the parts in another order":         one("1." + Session + "." + incarnation),
	}
}
