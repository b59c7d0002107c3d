package etcdledger

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
	DefaultRetention = time.Hour
	DefaultTimeout   = 2 * time.Second
)

// The limits of [Config.Retention] and [Config.Timeout].
const (
	minRetention = etcdclient.MinTTL
	maxRetention = 365 * 24 * time.Hour
	minTimeout   = time.Millisecond
	maxTimeout   = time.Minute
)

// Config says how to reach etcd and how to use it. Only Endpoints is required.
type Config struct {
	// Endpoints are the members' client URLs, such as
	// "http://10.0.0.1:2379", all http or all https. At least one.
	Endpoints []string
	// Namespace is the first part of every key, [DefaultNamespace] when empty:
	// instances share a ledger when their namespaces are equal. It holds
	// letters, digits and ". _ - /" and neither begins nor ends with a slash.
	// The keys are "<namespace>/ledger/<key>"; a user needs to read and to
	// write them.
	Namespace string
	// Retention is how long a call is remembered at least, in whole seconds,
	// 2 s to 365 days; [DefaultRetention] when zero. It must exceed the time
	// after which anything between caller and instances may still deliver a
	// copy of a call. etcd holds every call of that time, at some 160 bytes
	// each, and 250 more from its end until etcd compacts, which must be
	// turned on: 1,000 calls a second make 0.6 GB in an hour, where etcd takes
	// 2 GB by default. When etcd is full every call is refused.
	Retention time.Duration
	// Timeout is the most that one Begin takes, whatever its context allows,
	// 1 ms to 1 minute; [DefaultTimeout] when zero.
	Timeout time.Duration
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
	// Insecure allows a password over http to endpoints that are not on loopback, where
	// others on the network can read it. Otherwise that is an error.
	Insecure bool
	// Logger gets a line when etcd begins to fail and when it works again;
	// [slog.Default] when nil. It gets no keys.
	Logger *slog.Logger
}

// ConfigError says what is wrong with a [Config].
type ConfigError struct {
	// Field is the name of the field at fault.
	Field string
	// Problem is what is wrong with it, and the remedy.
	Problem string
}

// Error implements error.
func (e *ConfigError) Error() string { return "etcdledger: Config." + e.Field + ": " + e.Problem }

// withDefaults checks the configuration and fills in what it leaves out.
func (c Config) withDefaults() (Config, error) {
	client, wrong := c.client().WithDefaults()
	if wrong != nil {
		return Config{}, &ConfigError{wrong.Field, wrong.Problem}
	}
	c.Endpoints, c.Namespace = client.Endpoints, client.Namespace
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	if c.Retention < minRetention || c.Retention > maxRetention || c.Retention%time.Second != 0 {
		return Config{}, &ConfigError{"Retention", fmt.Sprintf("%v is not whole seconds from %v to %v", c.Retention, minRetention, maxRetention)}
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Timeout < minTimeout || c.Timeout > maxTimeout {
		return Config{}, &ConfigError{"Timeout", fmt.Sprintf("%v is not from %v to %v", c.Timeout, minTimeout, maxTimeout)}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// client is the part that says how to reach etcd.
func (c Config) client() etcdclient.Config {
	return etcdclient.Config{
		Endpoints: c.Endpoints, Namespace: c.Namespace, TLS: c.TLS, CAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile,
		Username: c.Username, Password: c.Password, Insecure: c.Insecure,
	}
}
