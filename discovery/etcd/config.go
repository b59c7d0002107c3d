package etcd

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// Defaults of [Config].
const (
	DefaultNamespace = etcdclient.DefaultNamespace
	DefaultTTL       = 15 * time.Second
)

// Config says how to connect to etcd and how to use it. Only Endpoints is required.
type Config struct {
	// Endpoints are the members' client URLs, such as
	// "http://10.0.0.1:2379", all http or all https. At least one.
	Endpoints []string
	// Namespace is the first part of every key, [DefaultNamespace] when empty:
	// programs see each other when their namespaces are equal. It holds
	// letters, digits and ". _ - /" and neither begins nor ends with a slash.
	Namespace string
	// TTL is how long a registration outlives a process that died, in whole
	// seconds, 2 s or more; [DefaultTTL] when zero. It is kept alive every
	// TTL/3.
	TTL time.Duration
	// CAFile is a file of the certificates, in PEM, that etcd's are signed with;
	// the system's roots when empty. CertFile and KeyFile are the client's
	// certificate and its key, in PEM, both or neither. All are for https
	// endpoints alone. [Open] reads them, and so does each connection that is made,
	// so that they can be replaced while the program runs.
	CAFile, CertFile, KeyFile string
	// TLS is the configuration of connections to https endpoints, instead of
	// those files, when they are not enough.
	TLS *tls.Config
	// Username and Password authenticate to etcd. Both or neither.
	Username, Password string
	// Logger receives a line for each change of the state of a registration or of a
	// watch; [slog.Default] if it is nil.
	Logger *slog.Logger
}

// ConfigError says what is wrong with a [Config].
type ConfigError struct {
	// Field is the name of the wrong field.
	Field string
	// Problem says what is wrong with it, and what to set instead.
	Problem string
}

// Error implements error.
func (e *ConfigError) Error() string { return "etcd: Config." + e.Field + ": " + e.Problem }

// withDefaults checks the configuration and fills in the defaults.
func (c Config) withDefaults() (Config, error) {
	client, wrong := c.client().WithDefaults()
	if wrong != nil {
		return Config{}, &ConfigError{wrong.Field, wrong.Problem}
	}
	c.Endpoints, c.Namespace = client.Endpoints, client.Namespace
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.TTL < etcdclient.MinTTL || c.TTL%time.Second != 0 {
		return Config{}, &ConfigError{"TTL", fmt.Sprintf("%v is not whole seconds, %v or more", c.TTL, etcdclient.MinTTL)}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// client is the part that says how to reach etcd.
func (c Config) client() etcdclient.Config {
	return etcdclient.Config{Endpoints: c.Endpoints, Namespace: c.Namespace, TLS: c.TLS, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile, Username: c.Username, Password: c.Password}
}
