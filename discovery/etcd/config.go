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
	// Endpoints are the client URLs of the members, at least one, such as
	// "http://10.0.0.1:2379". All are http, or all are https.
	Endpoints []string
	// Namespace is the first part of every key, [DefaultNamespace] when empty. Programs
	// with the same namespace see each other. It consists of letters, digits and
	// ". _ - /", and neither begins nor ends with a slash.
	Namespace string
	// TTL is how long a registration stays after its process has died, in whole seconds,
	// 2 s or more; [DefaultTTL] when zero. The lease is kept alive every TTL/3.
	TTL time.Duration
	// CAFile has the certificates, in PEM, that sign etcd's; the system's roots when
	// empty. CertFile and KeyFile are the client's certificate and its key, in PEM, both
	// or neither. All three are only for https endpoints. [Open] and each new connection
	// read them, so that they can be replaced while the program runs.
	CAFile, CertFile, KeyFile string
	// TLS is the configuration of connections to https endpoints. It replaces the files,
	// if they are not enough.
	TLS *tls.Config
	// Username and Password authenticate to etcd, both or neither.
	Username, Password string
	// Insecure allows a password over http to endpoints that are not on loopback, where
	// others on the network can read it. Otherwise that is an error.
	Insecure bool
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

// client returns the part that says how to reach etcd.
func (c Config) client() etcdclient.Config {
	return etcdclient.Config{
		Endpoints: c.Endpoints, Namespace: c.Namespace, TLS: c.TLS, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
		Username: c.Username, Password: c.Password, Insecure: c.Insecure,
	}
}
