package etcd

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Defaults of [Config].
const (
	DefaultNamespace = "onecall"
	DefaultTTL       = 15 * time.Second
)

// minTTL is the shortest lease that etcd grants at its default election
// timeout; it silently lengthens shorter ones.
const minTTL = 2 * time.Second

// Config says how to reach etcd and how to use it. Only Endpoints is required.
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
	// TLS is the configuration of connections to https endpoints; nil means
	// the system's roots and no client certificate. It is not for http ones.
	TLS *tls.Config
	// Username and Password authenticate to etcd. Both or neither.
	Username, Password string
	// Logger gets a line per change of a registration's or a watch's state;
	// [slog.Default] when nil.
	Logger *slog.Logger
}

// ConfigError says what is wrong with a [Config].
type ConfigError struct {
	// Field is the name of the field at fault.
	Field string
	// Problem says what is wrong with it and what to give instead.
	Problem string
}

// Error implements error.
func (e *ConfigError) Error() string { return "etcd: Config." + e.Field + ": " + e.Problem }

var namespace = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`)

// withDefaults checks the configuration and fills in what it leaves out.
func (c Config) withDefaults() (Config, error) {
	if err := c.checkEndpoints(); err != nil {
		return Config{}, err
	}
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	if !namespace.MatchString(c.Namespace) {
		return Config{}, &ConfigError{"Namespace", fmt.Sprintf("%q is not words of letters, digits and . _ - joined by slashes, such as onecall or shop/onecall", c.Namespace)}
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.TTL < minTTL || c.TTL%time.Second != 0 {
		return Config{}, &ConfigError{"TTL", fmt.Sprintf("%v is not whole seconds, %v or more", c.TTL, minTTL)}
	}
	switch {
	case c.Username == "" && c.Password != "":
		return Config{}, &ConfigError{"Username", "is empty though Password is set: give both or neither"}
	case c.Username != "" && c.Password == "":
		return Config{}, &ConfigError{"Password", "is empty though Username is set: give both or neither"}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Endpoints = slices.Clone(c.Endpoints)
	return c, nil
}

func (c Config) checkEndpoints() error {
	if len(c.Endpoints) == 0 {
		return &ConfigError{"Endpoints", `is empty: give at least one client URL of etcd, such as "http://127.0.0.1:2379"`}
	}
	for i, endpoint := range c.Endpoints {
		field := fmt.Sprintf("Endpoints[%d]", i)
		if strings.Contains(endpoint, ",") {
			return &ConfigError{field, fmt.Sprintf("%q holds several URLs: give each as an element of its own", endpoint)}
		}
		parsed, err := url.Parse(endpoint)
		if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") {
			return &ConfigError{field, fmt.Sprintf("%q is not an http or https URL: write it like http://127.0.0.1:2379", endpoint)}
		}
		if parsed.User != nil {
			return &ConfigError{field, "carries a user: set Username and Password instead"}
		}
		if _, port, err := net.SplitHostPort(parsed.Host); err != nil || port == "" || parsed.Hostname() == "" || strings.Trim(parsed.Path, "/") != "" {
			return &ConfigError{field, fmt.Sprintf("%q is not scheme, host and port: write it like http://127.0.0.1:2379", endpoint)}
		}
		if !strings.HasPrefix(c.Endpoints[0], parsed.Scheme+":") {
			return &ConfigError{field, fmt.Sprintf("%q is %s, unlike the first: give all endpoints one scheme", endpoint, parsed.Scheme)}
		}
		if parsed.Scheme == "http" && c.TLS != nil {
			return &ConfigError{"TLS", fmt.Sprintf("is set though endpoint %q is http, which would not use it: write https, or leave TLS out", endpoint)}
		}
	}
	return nil
}
