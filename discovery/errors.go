package discovery

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/onecall-dev/onecall/internal/quote"
)

// InstanceError says why an instance cannot be registered or used.
type InstanceError struct {
	// Instance is the one that was refused.
	Instance Instance
	// Field is the name of its wrong field.
	Field string
	// Problem says what is wrong with it, and what to set instead.
	Problem string
}

// Error implements error.
func (e *InstanceError) Error() string {
	return fmt.Sprintf("discovery: instance of %s: %s %s", quote.Text(e.Instance.API), e.Field, e.Problem)
}

// UnknownAPIError says that an API was never served.
type UnknownAPIError struct {
	// API is the requested name.
	API string
	// KnownAPIs are the names that the registry knows, sorted.
	KnownAPIs []string
	// Nearest are the most similar ones of KnownAPIs, the nearest first.
	Nearest []string
}

// Error implements error.
func (e *UnknownAPIError) Error() string {
	const most = 10
	known := "the registry knows " + quote.Names(e.KnownAPIs, most)
	if len(e.KnownAPIs) == 0 {
		known = "the registry knows no API at all: is this the right registry and namespace?"
	}
	if len(e.Nearest) > 0 {
		if strings.ContainsFunc(e.Nearest[0], unicode.IsUpper) {
			known = "a service without option (onecall.v1.api).name goes by its full proto name; " + known
		}
		known = fmt.Sprintf("did you mean %s? %s", strings.ReplaceAll(quote.Names(e.Nearest, most), ", ", " or "), known)
	}
	return fmt.Sprintf("unknown API %s: it was never served; check its name and that a service of it was started (%s)", quote.Text(e.API), known)
}

// NoInstanceError says that an API has no instance that accepts calls now.
type NoInstanceError struct {
	// API is the requested name.
	API string
	// Draining is how many instances finish their last calls.
	Draining int
	// LastSeen is when an instance was last registered; zero if that is not known.
	LastSeen time.Time
}

// Error implements error.
func (e *NoInstanceError) Error() string {
	problem := "it is not served now"
	if e.Draining > 0 {
		problem = fmt.Sprintf("its %d registered instances are draining", e.Draining)
		if e.Draining == 1 {
			problem = "its one registered instance is draining"
		}
	}
	if e.Draining == 0 && !e.LastSeen.IsZero() {
		problem += ", and an instance was last seen at " + e.LastSeen.UTC().Format(time.RFC3339)
	}
	return fmt.Sprintf("API %s has no instance: %s; start its service, or wait for it with Ready", quote.Text(e.API), problem)
}

// maxCauseBytes is how many bytes an error shows of a registry's error.
const maxCauseBytes = 1000

// UnreachableError says that the registry cannot be read.
type UnreachableError struct {
	// Registry says which registry, such as etcd's endpoints.
	Registry string
	// Since is when that was first noticed.
	Since time.Time
	// Cause is the last error.
	Cause error
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("the registry can't be reached: %s, since %s: %s", e.Registry, e.Since.UTC().Format(time.RFC3339), quote.Line(fmt.Sprint(e.Cause), maxCauseBytes))
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Cause }
