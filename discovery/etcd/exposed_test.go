package etcd_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/internal/testlog"
)

// openWarned opens a registry on an etcd that need not be there.
func openWarned(t *testing.T, config etcd.Config) (*etcd.Registry, *testlog.Log) {
	t.Helper()
	log := new(testlog.Log)
	config.TTL, config.Logger = 3*time.Second, log.Logger()
	registry, err := etcd.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	return registry, log
}

func TestAPasswordIsNotSentInPlainTextUnlessThatIsMeant(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		config  etcd.Config
		refused bool
	}{
		"http, elsewhere":        {etcd.Config{Endpoints: []string{"http://192.0.2.1:2379"}, Username: "auth", Password: "hunter2"}, true},
		"HTTP, elsewhere":        {etcd.Config{Endpoints: []string{"HTTP://192.0.2.1:2379"}, Username: "auth", Password: "hunter2"}, true},
		"http, by name":          {etcd.Config{Endpoints: []string{"http://etcd-0:2379"}, Username: "auth", Password: "hunter2"}, true},
		"http, one is elsewhere": {etcd.Config{Endpoints: []string{"http://127.0.0.1:2379", "http://[2001:db8::1]:2379"}, Username: "auth", Password: "hunter2"}, true},
		"http, and it is meant":  {etcd.Config{Endpoints: []string{"http://192.0.2.1:2379"}, Username: "auth", Password: "hunter2", Insecure: true}, false},
		"http, loopback":         {etcd.Config{Endpoints: []string{"http://127.0.0.1:2379", "http://localhost:2379", "http://[::1]:2379"}, Username: "auth", Password: "hunter2"}, false},
		"https":                  {etcd.Config{Endpoints: []string{"https://192.0.2.1:2379"}, Username: "auth", Password: "hunter2"}, false},
		"no password":            {etcd.Config{Endpoints: []string{"http://192.0.2.1:2379"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry, err := etcd.Open(test.config)
			if err == nil {
				_ = registry.Close()
			}
			var wrong *etcd.ConfigError
			if errors.As(err, &wrong) != test.refused || test.refused && (wrong.Field != "Password" || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("Open = %v, want an error: %v", err, test.refused)
			}
		})
	}
}

func TestALoopbackAddressInAnEtcdElsewhereIsWarnedOf(t *testing.T) {
	t.Parallel()
	const elsewhere, here = "http://192.0.2.1:2379", "http://127.0.0.1:1"
	for name, test := range map[string]struct {
		endpoint, address string
		want              int
	}{
		"loopback":           {elsewhere, "127.0.0.1:80", 1},
		"IPv6 loopback":      {elsewhere, "[::1]:80", 1},
		"localhost":          {elsewhere, "localhost:80", 1},
		"another address":    {elsewhere, "10.0.0.1:80", 0},
		"a name":             {elsewhere, "auth.internal:80", 0},
		"etcd is here":       {here, "127.0.0.1:80", 0},
		"etcd is here, name": {"http://localhost:1", "127.0.0.1:80", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry, log := openWarned(t, etcd.Config{Endpoints: []string{test.endpoint}})
			registration, err := registry.Register(discoverytest.Instance("auth", test.address), discoverytest.Instance("mail", test.address))
			if err != nil {
				t.Fatal(err)
			}
			discoverytest.Close(t, registration)
			if got := strings.Count(log.String(), "loopback"); got != test.want {
				t.Errorf("the log has %d warnings, want %d:\n%s", got, test.want, log)
			}
			if test.want > 0 && !strings.Contains(log.String(), "AdvertiseAs") {
				t.Errorf("the log does not say what to do:\n%s", log)
			}
		})
	}
}
