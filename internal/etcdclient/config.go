// Package etcdclient connects the registry and the ledger to etcd. It checks the
// configuration, makes the connection at its first use, and returns in bounded time why
// there is none.
package etcdclient

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DefaultNamespace is the first part of every key when none is configured.
const DefaultNamespace = "onecall"

// MinTTL is the shortest lease that etcd grants at its default election
// timeout; it silently lengthens shorter ones.
const MinTTL = 2 * time.Second

// Config says how to reach etcd. The public configurations have the same fields, and
// their packages document them.
type Config struct {
	Endpoints          []string
	Namespace          string
	TLS                *tls.Config
	CAFile             string
	CertFile, KeyFile  string
	Username, Password string
	Insecure           bool
}

// FieldError says which field is wrong and how. Packages return it as an error of their
// own.
type FieldError struct {
	// Field is the name of the wrong field.
	Field string
	// Problem says what is wrong with it, and what to set instead.
	Problem string
}

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

var namespace = regexp.MustCompile(`^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$`)

// WithDefaults checks the configuration and fills in the defaults.
func (c Config) WithDefaults() (Config, *FieldError) {
	if err := c.checkEndpoints(); err != nil {
		return Config{}, err
	}
	if err := c.checkFiles(); err != nil {
		return Config{}, err
	}
	if c.Namespace == "" {
		c.Namespace = DefaultNamespace
	}
	if !namespace.MatchString(c.Namespace) {
		return Config{}, &FieldError{"Namespace", fmt.Sprintf("%q is not words of letters, digits and . _ - joined by slashes, such as onecall or shop/onecall", c.Namespace)}
	}
	switch {
	case c.Username == "" && c.Password != "":
		return Config{}, &FieldError{"Username", "is empty though Password is set: give both or neither"}
	case c.Username != "" && c.Password == "":
		return Config{}, &FieldError{"Password", "is empty though Username is set: give both or neither"}
	case c.exposed() != "" && c.Password != "" && !c.Insecure:
		return Config{}, &FieldError{"Password", fmt.Sprintf("would go to %s in plain text, where others on the network can read it: use https endpoints, or set Insecure if that is meant", c.exposed())}
	}
	c.Endpoints = slices.Clone(c.Endpoints)
	for i, endpoint := range c.Endpoints { // etcd's client knows only lower-case schemes
		scheme, rest, _ := strings.Cut(endpoint, ":")
		c.Endpoints[i] = strings.ToLower(scheme) + ":" + rest
	}
	return c, nil
}

func (c Config) checkEndpoints() *FieldError {
	if len(c.Endpoints) == 0 {
		return &FieldError{"Endpoints", `is empty: give at least one client URL of etcd, such as "http://127.0.0.1:2379"`}
	}
	for i, endpoint := range c.Endpoints {
		field := fmt.Sprintf("Endpoints[%d]", i)
		if strings.Contains(endpoint, "@") { // checked before the endpoint is shown, since it may contain a password
			return &FieldError{field, "carries a user: set Username and Password instead"}
		}
		if strings.Contains(endpoint, ",") {
			return &FieldError{field, fmt.Sprintf("%q holds several URLs: give each as an element of its own", endpoint)}
		}
		parsed, err := url.Parse(endpoint)
		if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") {
			return &FieldError{field, fmt.Sprintf("%q is not an http or https URL: write it like http://127.0.0.1:2379", endpoint)}
		}
		if !hostAndPortAlone(parsed) {
			return &FieldError{field, fmt.Sprintf("%q is not scheme, host and port: write it like http://127.0.0.1:2379", endpoint)}
		}
		if scheme, _, _ := strings.Cut(c.Endpoints[0], ":"); !strings.EqualFold(scheme, parsed.Scheme) {
			return &FieldError{field, fmt.Sprintf("%q is %s, unlike the first: give all endpoints one scheme", endpoint, parsed.Scheme)}
		}
		if field := c.securityField(); parsed.Scheme == "http" && field != "" {
			return &FieldError{field, fmt.Sprintf("is set though endpoint %q is http, which would not use it: write https, or leave %s out", endpoint, field)}
		}
	}
	return nil
}

// hostAndPortAlone reports whether a URL has only a scheme, a host and a port.
func hostAndPortAlone(endpoint *url.URL) bool {
	port, err := strconv.ParseUint(endpoint.Port(), 10, 16)
	return err == nil && port > 0 && endpoint.Hostname() != "" && strings.Trim(endpoint.Path, "/") == "" &&
		endpoint.RawQuery == "" && endpoint.Fragment == ""
}

// Describe returns the endpoints, for errors.
func (c Config) Describe() string { return "etcd at " + strings.Join(c.Endpoints, ", ") }
