package discovery_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
)

func TestAnInstanceThatCallersCanUseIsValid(t *testing.T) {
	t.Parallel()
	for title, instance := range map[string]discovery.Instance{
		"an IPv4 address":             {API: "auth", Address: "10.0.0.7:8443"},
		"an IPv6 address":             {API: "auth", Address: "[2001:db8::7]:8443"},
		"a link-local IPv6 address":   {API: "auth", Address: "[fe80::7%eth0]:8443"},
		"a host name":                 {API: "auth", Address: "auth-0.auth.svc:8443"},
		"the loopback":                {API: "auth", Address: "127.0.0.1:1"},
		"the highest port":            {API: "auth", Address: "localhost:65535"},
		"a state of serving":          {API: "auth", Address: "localhost:80", State: discovery.Serving},
		"a state of draining":         {API: "auth", Address: "localhost:80", State: discovery.Draining},
		"a full proto name as an API": {API: "auth.v1.AuthService", Address: "localhost:80"},
		"a socket":                    {API: "auth", Address: "localhost:80", Socket: discovery.Socket{Host: "h", Path: "/tmp/a", File: "1:2"}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if err := instance.Validate(); err != nil {
				t.Errorf("Validate = %v", err)
			}
		})
	}
}

func TestAnInstanceThatCallersCannotUseIsRefusedByField(t *testing.T) {
	t.Parallel()
	at := func(address string) discovery.Instance { return discovery.Instance{API: "auth", Address: address} }
	with := func(host, path, file string) discovery.Instance {
		return discovery.Instance{API: "auth", Address: "localhost:80", Socket: discovery.Socket{Host: host, Path: path, File: file}}
	}
	tests := map[string]struct {
		instance       discovery.Instance
		field, problem string
	}{
		"no API":                       {discovery.Instance{Address: "localhost:80"}, "API", "is empty"},
		"a slash in the API":           {discovery.Instance{API: "auth/x", Address: "localhost:80"}, "API", `"auth/x" has a slash`},
		"an unknown state":             {discovery.Instance{API: "auth", Address: "localhost:80", State: "up"}, "State", `"up" is neither "serving" nor "draining"`},
		"a state in capitals":          {discovery.Instance{API: "auth", Address: "localhost:80", State: "SERVING"}, "State", `"SERVING" is neither`},
		"no address":                   {at(""), "Address", "is empty"},
		"no port":                      {at("localhost"), "Address", `"localhost" is not "host:port"`},
		"an empty port":                {at("localhost:"), "Address", `has the port ""`},
		"port 0":                       {at("localhost:0"), "Address", `has the port "0"`},
		"a port beyond all":            {at("localhost:99999"), "Address", `has the port "99999"`},
		"a port one beyond all":        {at("localhost:65536"), "Address", `has the port "65536"`},
		"a negative port":              {at("localhost:-1"), "Address", `has the port "-1"`},
		"a port with a sign":           {at("localhost:+80"), "Address", `has the port "+80"`},
		"a port by name":               {at("localhost:http"), "Address", `has the port "http"`},
		"a port in another base":       {at("localhost:0x50"), "Address", `has the port "0x50"`},
		"no host":                      {at(":80"), "Address", "has no host"},
		"an empty host in brackets":    {at("[]:80"), "Address", "has no host"},
		"nothing but a colon":          {at(":"), "Address", `has the port ""`},
		"every IPv4 address":           {at("0.0.0.0:80"), "Address", "is every address"},
		"every IPv6 address":           {at("[::]:80"), "Address", "is every address"},
		"every IPv6 address, in full":  {at("[0:0:0:0:0:0:0:0]:80"), "Address", "is every address"},
		"every IPv4 address, as IPv6":  {at("[::ffff:0.0.0.0]:80"), "Address", "is every address"},
		"every IPv6 address of a zone": {at("[::%eth0]:80"), "Address", "is every address"},
		"IPv6 without brackets":        {at("2001:db8::7:80"), "Address", `is not "host:port"`},
		"a bracket left open":          {at("[2001:db8::7:80"), "Address", `is not "host:port"`},
		"a URL":                        {at("http://localhost:80"), "Address", `is not "host:port"`},
		"two ports":                    {at("localhost:80:81"), "Address", `is not "host:port"`},
		"a socket without a host":      {with("", "/a", "1:2"), "Socket", "has no host, no file or no absolute path"},
		"a socket without a path":      {with("h", "", "1:2"), "Socket", "no absolute path"},
		"a socket without a file":      {with("h", "/a", ""), "Socket", "no file"},
		"a socket of a relative path":  {with("h", "a", "1:2"), "Socket", "no absolute path"},
		"a socket with a line break":   {with("h", "/a\n", "1:2"), "Socket", "is no line of text"},
		"a socket of a long path":      {with("h", "/"+strings.Repeat("a", 1024), "1:2"), "Socket", "has 1025 bytes"},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			err := test.instance.Validate()
			var fault *discovery.InstanceError
			if !errors.As(err, &fault) {
				t.Fatalf("Validate = %v (%T), want an *InstanceError", err, err)
			}
			if fault.Field != test.field || !strings.Contains(fault.Problem, test.problem) || !fault.Instance.Equal(test.instance) {
				t.Errorf("error = %+v, want field %s and %q", fault, test.field, test.problem)
			}
			for _, part := range []string{test.instance.API, fault.Field, fault.Problem} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error = %q, want it to hold %q", err, part)
				}
			}
		})
	}
}

func TestInstancesAreEqualInEveryField(t *testing.T) {
	t.Parallel()
	started := time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)
	build := func() discovery.Instance {
		return discovery.Instance{
			API: "auth", Address: "localhost:80", Incarnation: discovery.Incarnation{1}, Service: "auth.v1.AuthService",
			State: discovery.Serving, Version: "1", Zone: "a", Schema: "s", Started: started,
			Socket: discovery.Socket{Host: "h", Path: "/p", File: "1:2"},
		}
	}
	elsewhere := build()
	elsewhere.Started = started.In(time.FixedZone("UTC+1", 3600))
	if !build().Equal(build()) || !build().Equal(elsewhere) {
		t.Error("instances that are the same are not equal")
	}
	for field, change := range map[string]func(*discovery.Instance){
		"API":         func(i *discovery.Instance) { i.API = "x" },
		"Address":     func(i *discovery.Instance) { i.Address = "x" },
		"Incarnation": func(i *discovery.Instance) { i.Incarnation[15] = 1 },
		"Service":     func(i *discovery.Instance) { i.Service = "x" },
		"State":       func(i *discovery.Instance) { i.State = discovery.Draining },
		"Version":     func(i *discovery.Instance) { i.Version = "x" },
		"Zone":        func(i *discovery.Instance) { i.Zone = "x" },
		"Schema":      func(i *discovery.Instance) { i.Schema = "x" },
		"Started":     func(i *discovery.Instance) { i.Started = started.Add(time.Millisecond) },
		"Socket":      func(i *discovery.Instance) { i.Socket.File = "1:3" },
	} {
		t.Run("but for "+field, func(t *testing.T) {
			t.Parallel()
			changed := build()
			change(&changed)
			if build().Equal(changed) || changed.Equal(build()) {
				t.Error("equal")
			}
		})
	}
	instance := build()
	for _, other := range []any{nil, "auth", &instance} {
		if instance.Equal(other) {
			t.Errorf("equal to a %T", other)
		}
	}
}

func TestAnIncarnationIsReadBackFromItsText(t *testing.T) {
	t.Parallel()
	seen := make(map[discovery.Incarnation]bool)
	for range 1000 {
		drawn := discovery.NewIncarnation()
		if drawn.IsZero() || seen[drawn] {
			t.Fatalf("drew %v, which is none or not new", drawn)
		}
		seen[drawn] = true
		text := drawn.String()
		if len(text) != 22 {
			t.Fatalf("the text %q has %d characters, want 22", text, len(text))
		}
		if read, err := discovery.ParseIncarnation(text); err != nil || read != drawn {
			t.Fatalf("ParseIncarnation(%q) = %v, %v", text, read, err)
		}
	}
	highest := discovery.Incarnation([]byte(strings.Repeat("\xff", 16)))
	if text := highest.String(); text != "_____________________w" {
		t.Errorf("the text of the highest is %q, which is not base64url", text)
	}
	if none := (discovery.Incarnation{}); none.String() != "" || !none.IsZero() {
		t.Errorf("the text of none is %q", none)
	}
}

func TestABadTextOfAnIncarnationIsRefused(t *testing.T) {
	t.Parallel()
	const good = "AQIDBAUGBwgJCgsMDQ4PEA"
	if _, err := discovery.ParseIncarnation(good); err != nil {
		t.Fatal(err)
	}
	for title, text := range map[string]string{
		"nothing":                             "",
		"one character short":                 good[:21],
		"one character long":                  good + "A",
		"a byte short":                        base64.RawURLEncoding.EncodeToString(make([]byte, 15)),
		"a byte long":                         base64.RawURLEncoding.EncodeToString(make([]byte, 17)),
		"padded":                              good + "==",
		"of the other alphabet, a plus":       "+" + good[1:],
		"of the other alphabet, a slash":      "/" + good[1:],
		"of no alphabet":                      "!" + good[1:],
		"with a space in front":               " " + good,
		"with a space in it":                  good[:10] + " " + good[11:],
		"with a line break at the end":        good + "\n",
		"with a line break in it":             good[:10] + "\n" + good[10:],
		"hexadecimal":                         "0102030405060708090a0b0c0d0e0f10",
		"with trailing bits that say nothing": good[:21] + "B",
		"far too long":                        strings.Repeat("A", 1<<16),
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			read, err := discovery.ParseIncarnation(text)
			if err == nil || !read.IsZero() {
				t.Fatalf("ParseIncarnation = %v, %v; want an error", read, err)
			}
			if !strings.Contains(err.Error(), "22 characters of unpadded base64url") || len(err.Error()) > 250 {
				t.Errorf("error = %q", err)
			}
		})
	}
}

func TestASnapshotTellsWhyThereIsNoInstance(t *testing.T) {
	t.Parallel()
	serving := discovery.Instance{API: "auth", Address: "10.0.0.1:80", State: discovery.Serving}
	silent := discovery.Instance{API: "auth", Address: "10.0.0.2:80"}
	draining := discovery.Instance{API: "auth", Address: "10.0.0.3:80", State: discovery.Draining}
	away := &discovery.UnreachableError{Registry: "etcd at http://10.0.0.9:2379", Since: time.Unix(1767323045, 0), Cause: errors.New("refused")}
	tests := map[string]struct {
		instances   []discovery.Instance
		known       bool
		knownAPIs   []string
		unreachable *discovery.UnreachableError
		want        string // "" when callers find an instance
	}{
		"an instance serves":                       {instances: []discovery.Instance{serving}, known: true},
		"an instance says nothing of its state":    {instances: []discovery.Instance{silent}, known: true},
		"one of two drains":                        {instances: []discovery.Instance{draining, serving}, known: true},
		"the registry is away, one is still known": {instances: []discovery.Instance{serving}, known: true, unreachable: away},
		"it was never served": {
			want: `unknown API "auth": it was never served; check its name and that a service of it was started (the registry knows no API at all: is this the right registry and namespace?)`,
		},
		"it was never served, but others": {
			knownAPIs: []string{"billing", "shop"},
			want:      `unknown API "auth": it was never served; check its name and that a service of it was started (the registry knows billing, shop)`,
		},
		"it is not served now": {known: true, want: `API "auth" has no instance: it is not served now; start its service, or wait for it with Ready`},
		"its one instance drains": {
			instances: []discovery.Instance{draining}, known: true,
			want: `API "auth" has no instance: its one registered instance is draining; start its service, or wait for it with Ready`,
		},
		"all its instances drain": {
			instances: []discovery.Instance{draining, draining}, known: true,
			want: `API "auth" has no instance: its 2 registered instances are draining; start its service, or wait for it with Ready`,
		},
		"the registry is away": {
			unreachable: away,
			want:        "the registry can't be reached: etcd at http://10.0.0.9:2379, since 2026-01-02T03:04:05Z: refused",
		},
		"the registry is away, the last known one drains": {
			instances: []discovery.Instance{draining}, known: true, unreachable: away,
			want: "the registry can't be reached: etcd at http://10.0.0.9:2379, since 2026-01-02T03:04:05Z: refused",
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			snapshot := discovery.Snapshot{
				API: "auth", Instances: test.instances, Known: test.known, KnownAPIs: test.knownAPIs, Unreachable: test.unreachable,
			}
			err := snapshot.Err()
			if test.want == "" {
				if err != nil {
					t.Errorf("Err = %v, want none", err)
				}
				return
			}
			if err == nil || err.Error() != test.want {
				t.Fatalf("Err = %v\nwant  %s", err, test.want)
			}
			var (
				unreachable *discovery.UnreachableError
				unknown     *discovery.UnknownAPIError
				none        *discovery.NoInstanceError
			)
			switch {
			case test.unreachable != nil:
				if !errors.As(err, &unreachable) || !errors.Is(err, away.Cause) {
					t.Errorf("Err is a %T, want an *UnreachableError with its cause", err)
				}
			case !test.known:
				if !errors.As(err, &unknown) || unknown.API != "auth" {
					t.Errorf("Err is a %T, want an *UnknownAPIError of auth", err)
				}
			default:
				if !errors.As(err, &none) || none.API != "auth" || none.Draining != len(test.instances) {
					t.Errorf("Err is a %T, want a *NoInstanceError of auth", err)
				}
			}
		})
	}
}

func TestAnUnknownAPIsErrorNamesTenOthersAtMost(t *testing.T) {
	t.Parallel()
	names := strings.Split("a b c d e f g h i j k l", " ")
	for title, test := range map[string]struct {
		known int
		want  string
	}{
		"one":    {1, "(the registry knows a)"},
		"ten":    {10, "(the registry knows a, b, c, d, e, f, g, h, i, j)"},
		"eleven": {11, "(the registry knows a, b, c, d, e, f, g, h, i, j and 1 more)"},
		"twelve": {12, "(the registry knows a, b, c, d, e, f, g, h, i, j and 2 more)"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			err := &discovery.UnknownAPIError{API: "auth", KnownAPIs: names[:test.known]}
			if !strings.HasSuffix(err.Error(), test.want) {
				t.Errorf("error = %q, want it to end in %q", err, test.want)
			}
		})
	}
}
