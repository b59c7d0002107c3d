package discovery_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/discovery"
)

func TestOnlyWhatIsDialledByTCPIsAnAddress(t *testing.T) {
	t.Parallel()
	for title, address := range map[string]string{
		"a unix socket":               "unix:1234",
		"a unix socket in capitals":   "UNIX:1234",
		"a unix socket in brackets":   "[unix]:1234",
		"an abstract unix socket":     "unix-abstract:1234",
		"a socket of a machine":       "vsock:1234",
		"gRPC's passthrough":          "passthrough:1234",
		"a URL in brackets":           "[unix:/run/x]:1234",
		"colons that are no address":  "[a:b]:1234",
		"a user":                      "user@host:1234",
		"a wildcard":                  "*:1234",
		"a control character":         "ho\x7fst:1234",
		"a line break":                "ho\nst:1234",
		"a character of no host":      "hôst:1234",
		"a percent sign":              "a%41:1234",
		"a slash":                     "a/b:1234",
		"a space in the zone":         "[fe80::1%a b]:1234",
		"a slash in the zone":         "[fe80::1%a/b]:1234",
		"a host that no DNS can have": strings.Repeat("a", 254) + ":1234",
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			err := discovery.Instance{API: "auth", Address: address}.Validate()
			fault, ok := errors.AsType[*discovery.InstanceError](err)
			if !ok || fault.Field != "Address" {
				t.Fatalf("Validate = %v, want an *InstanceError of Address", err)
			}
			oneShortLine(t, err.Error())
		})
	}
}

func TestHostsThatOnlyLookLikeASchemeAreAddresses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"unix.example.com:1234", "unix-1:1234", "dns:53", "my_host:1", "A.B-c:1", "1.2.3.4:5"} {
		if err := (discovery.Instance{API: "auth", Address: address}).Validate(); err != nil {
			t.Errorf("Validate of %q = %v", address, err)
		}
	}
}

func TestANameThatNoAPIHasIsNotRegistered(t *testing.T) {
	t.Parallel()
	for title, api := range map[string]string{
		"a line break":        "auth\nERROR",
		"a space":             "auth users",
		"no ASCII":            "äuth",
		"more than 255 bytes": strings.Repeat("a", 256),
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			err := discovery.Instance{API: api, Address: "localhost:1"}.Validate()
			fault, ok := errors.AsType[*discovery.InstanceError](err)
			if !ok || fault.Field != "API" {
				t.Fatalf("Validate = %v, want an *InstanceError of API", err)
			}
			oneShortLine(t, err.Error())
		})
	}
}

// Any program that writes into a registry chooses these texts, and each caller logs
// them.
func TestNothingFromARegistryMakesAnErrorLongOrMultiLine(t *testing.T) {
	t.Parallel()
	long := "a\nERROR forged \x1b[31m" + strings.Repeat("x", 200_000)
	at := func(address string) error { return discovery.Instance{API: "auth", Address: address}.Validate() }
	many := make([]string, 50)
	for i := range many {
		many[i] = long
	}
	_, incarnation := discovery.ParseIncarnation(long)
	for title, err := range map[string]error{
		"an address":              at(long),
		"a host":                  at(long + ":1"),
		"a host in brackets":      at("[" + long + "]:1"),
		"a port":                  at("localhost:" + long),
		"a state":                 discovery.Instance{API: "auth", Address: "localhost:1", State: discovery.State(long)}.Validate(),
		"an API's name":           discovery.Instance{API: long, Address: "localhost:1"}.Validate(),
		"an API's with a slash":   discovery.Instance{API: long + "/", Address: "localhost:1"}.Validate(),
		"an incarnation":          incarnation,
		"names of known APIs":     &discovery.UnknownAPIError{API: long, KnownAPIs: many, Nearest: many},
		"an API without one":      &discovery.NoInstanceError{API: long},
		"what a registry answers": &discovery.UnreachableError{Registry: "etcd", Cause: errors.New(long)},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if err == nil {
				t.Fatal("no error")
			}
			oneShortLine(t, err.Error())
		})
	}
}

func oneShortLine(t *testing.T, text string) {
	t.Helper()
	const most = 3000 // of 20 names
	if len(text) > most || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		t.Errorf("error of %d bytes: %.300q, want at most %d on one line, without control characters", len(text), text, most)
	}
}
