package etcd_test

import (
	"crypto/tls"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
)

func TestBadConfigurationsAreErrorsThatNameTheField(t *testing.T) {
	t.Parallel()
	good := []string{"http://127.0.0.1:2379"}
	for name, test := range map[string]struct {
		config etcd.Config
		field  string
	}{
		"no endpoints":          {etcd.Config{}, "Endpoints"},
		"an empty endpoint":     {etcd.Config{Endpoints: []string{""}}, "Endpoints[0]"},
		"no scheme":             {etcd.Config{Endpoints: []string{"127.0.0.1:2379"}}, "Endpoints[0]"},
		"another scheme":        {etcd.Config{Endpoints: []string{"ftp://127.0.0.1:2379"}}, "Endpoints[0]"},
		"no port":               {etcd.Config{Endpoints: []string{"http://127.0.0.1"}}, "Endpoints[0]"},
		"no host":               {etcd.Config{Endpoints: []string{"http://:2379"}}, "Endpoints[0]"},
		"a path":                {etcd.Config{Endpoints: []string{"http://127.0.0.1:2379/v3"}}, "Endpoints[0]"},
		"a user in the URL":     {etcd.Config{Endpoints: []string{"http://root:pw@127.0.0.1:2379"}}, "Endpoints[0]"},
		"port 0":                {etcd.Config{Endpoints: []string{"http://127.0.0.1:0"}}, "Endpoints[0]"},
		"port 99999":            {etcd.Config{Endpoints: []string{"http://127.0.0.1:99999"}}, "Endpoints[0]"},
		"a query":               {etcd.Config{Endpoints: []string{"http://127.0.0.1:2379?tls=no"}}, "Endpoints[0]"},
		"joined endpoints":      {etcd.Config{Endpoints: []string{"http://a:1,http://b:1"}}, "Endpoints[0]"},
		"a bad second endpoint": {etcd.Config{Endpoints: []string{"http://a:1", "b"}}, "Endpoints[1]"},
		"mixed schemes":         {etcd.Config{Endpoints: []string{"http://a:1", "https://b:1"}}, "Endpoints[1]"},
		"TLS for http":          {etcd.Config{Endpoints: good, TLS: &tls.Config{}}, "TLS"},
		"a namespace's slash":   {etcd.Config{Endpoints: good, Namespace: "/onecall"}, "Namespace"},
		"a namespace's space":   {etcd.Config{Endpoints: good, Namespace: "one call"}, "Namespace"},
		"a TTL of 1 s":          {etcd.Config{Endpoints: good, TTL: time.Second}, "TTL"},
		"a negative TTL":        {etcd.Config{Endpoints: good, TTL: -time.Minute}, "TTL"},
		"a TTL of 2.5 s":        {etcd.Config{Endpoints: good, TTL: 2500 * time.Millisecond}, "TTL"},
		"a user alone":          {etcd.Config{Endpoints: good, Username: "u"}, "Password"},
		"a password alone":      {etcd.Config{Endpoints: good, Password: "p"}, "Username"},
	} {
		t.Run(name, func(t *testing.T) {
			registry, err := etcd.Open(test.config)
			var configError *etcd.ConfigError
			if !errors.As(err, &configError) || configError.Field != test.field {
				t.Errorf("with %s Open = %v, want a ConfigError that names %s", name, err, test.field)
			}
			if registry != nil {
				_ = registry.Close()
			}
		})
	}
}

func TestAnEndpointWithAPasswordIsNotShown(t *testing.T) {
	t.Parallel()
	for _, endpoint := range []string{
		"http://root:s3cret@a:2379", "http://root:s3cret@a:2379,http://root:s3cret@b:2379", "etcd://root:s3cret@a:2379",
		"http://root:s3cret#x@a:2379", "https://root:s3cret%@a:2379",
	} {
		_, err := etcd.Open(etcd.Config{Endpoints: []string{endpoint}})
		var configError *etcd.ConfigError
		if !errors.As(err, &configError) || configError.Field != "Endpoints[0]" || strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "Password") {
			t.Errorf("with endpoint %s Open = %v", endpoint, err)
		}
	}
}

func TestASchemeMayBeInCapitals(t *testing.T) {
	t.Parallel()
	endpoint := shared.Endpoints()[0]
	registry := openWith(t, etcd.Config{Endpoints: []string{"HTTP" + strings.TrimPrefix(endpoint, "http"), endpoint}})
	discoverytest.Register(t, registry, discoverytest.Instance("auth", "10.0.0.1:1"))
}
