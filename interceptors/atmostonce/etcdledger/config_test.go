package etcdledger_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/interceptors/atmostonce/etcdledger"
)

func TestBadConfigurationsAreErrorsThatNameTheField(t *testing.T) {
	t.Parallel()
	good := []string{"http://127.0.0.1:2379"}
	for name, test := range map[string]struct {
		config etcdledger.Config
		field  string
	}{
		"no endpoints":             {etcdledger.Config{}, "Endpoints"},
		"no scheme":                {etcdledger.Config{Endpoints: []string{"127.0.0.1:2379"}}, "Endpoints[0]"},
		"a bad second endpoint":    {etcdledger.Config{Endpoints: []string{"http://a:1", "b"}}, "Endpoints[1]"},
		"TLS for http":             {etcdledger.Config{Endpoints: good, TLS: &tls.Config{}}, "TLS"},
		"a file for http":          {etcdledger.Config{Endpoints: good, CAFile: "ca.pem"}, "CAFile"},
		"half a key pair":          {etcdledger.Config{Endpoints: []string{"https://a:1"}, CertFile: "cert.pem"}, "KeyFile"},
		"a namespace's slash":      {etcdledger.Config{Endpoints: good, Namespace: "onecall/"}, "Namespace"},
		"a retention of 1 s":       {etcdledger.Config{Endpoints: good, Retention: time.Second}, "Retention"},
		"a negative retention":     {etcdledger.Config{Endpoints: good, Retention: -time.Hour}, "Retention"},
		"a retention of 2.5 s":     {etcdledger.Config{Endpoints: good, Retention: 2500 * time.Millisecond}, "Retention"},
		"a retention of 10 years":  {etcdledger.Config{Endpoints: good, Retention: 10 * 365 * 24 * time.Hour}, "Retention"},
		"a negative timeout":       {etcdledger.Config{Endpoints: good, Timeout: -time.Second}, "Timeout"},
		"a timeout of 1 µs":        {etcdledger.Config{Endpoints: good, Timeout: time.Microsecond}, "Timeout"},
		"a timeout of an hour":     {etcdledger.Config{Endpoints: good, Timeout: time.Hour}, "Timeout"},
		"a user alone":             {etcdledger.Config{Endpoints: good, Username: "u"}, "Password"},
		"a password alone":         {etcdledger.Config{Endpoints: good, Password: "p"}, "Username"},
		"a password in plain text": {etcdledger.Config{Endpoints: []string{"http://192.0.2.1:2379"}, Username: "u", Password: "p"}, "Password"},
	} {
		t.Run(name, func(t *testing.T) {
			ledger, err := etcdledger.Open(test.config)
			var configError *etcdledger.ConfigError
			if !errors.As(err, &configError) || configError.Field != test.field || !strings.HasPrefix(err.Error(), "etcdledger: Config."+test.field+": ") {
				t.Errorf("with %s Open = %v, want a ConfigError that names %s", name, err, test.field)
			}
			if ledger != nil {
				_ = ledger.Close()
			}
		})
	}
}
