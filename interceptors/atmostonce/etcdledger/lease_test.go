package etcdledger

import (
	"crypto/tls"
	"reflect"
	"testing"
	"time"
)

func TestALeaseTakesKeysForItsShareAndUpToItsNumber(t *testing.T) {
	t.Parallel()
	const retention, timeout = 1000 * time.Second, 2 * time.Second
	leases := newLeases(retention, timeout)
	if least := retention + leases.share + leases.slack; leases.share != 100*time.Second || leases.slack != timeout || leases.ttl < least || leases.ttl%time.Second != 0 {
		t.Fatalf("leases of %v take keys for %v + %v: a key put last must stay %v", leases.ttl, leases.share, leases.slack, retention)
	}
	for name, test := range map[string]struct {
		age, wallAge time.Duration
		keys         int64
		usable, late bool
	}{
		"new":                           {usable: true},
		"with room for one key":         {keys: keysPerLease - 1, usable: true},
		"full":                          {keys: keysPerLease},
		"at the end of its share":       {age: 100 * time.Second, wallAge: 100 * time.Second},
		"after its share and slack":     {age: 103 * time.Second, wallAge: 103 * time.Second, late: true},
		"of a machine that slept":       {wallAge: 103 * time.Second, late: true},
		"of a clock that was put back":  {age: 103 * time.Second, wallAge: -time.Hour, late: true},
		"of a clock put back, but new":  {wallAge: -time.Hour, usable: true},
		"of a clock put ahead, but new": {wallAge: time.Hour, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			it := &lease{id: 1, requested: now.Add(-test.age), wall: now.Round(0).Add(-test.wallAge)}
			it.keys.Store(test.keys)
			leases.current.Store(it)
			if got := leases.usable(); (got != nil) != test.usable {
				t.Errorf("a lease %s is usable: %t, want %t", name, got != nil, test.usable)
			}
			if err := leases.check(it); (err != nil) != test.late {
				t.Errorf("a key put under a lease %s: %v, want an error: %t", name, err, test.late)
			}
		})
	}
}

func TestAConfigurationReachesTheClientWhole(t *testing.T) {
	t.Parallel()
	config := Config{
		Endpoints: []string{"https://a:1"}, Namespace: "n", TLS: &tls.Config{MinVersion: tls.VersionTLS13},
		CAFile: "ca", CertFile: "cert", KeyFile: "key", Username: "u", Password: "p", Insecure: true,
	}
	client := reflect.ValueOf(config.client())
	for i := range client.NumField() {
		name := client.Type().Field(i).Name
		if want := reflect.ValueOf(config).FieldByName(name); !reflect.DeepEqual(client.Field(i).Interface(), want.Interface()) {
			t.Errorf("the client has the %s %v, want %v", name, client.Field(i), want)
		}
	}
}
