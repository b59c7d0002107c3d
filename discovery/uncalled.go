package discovery

import (
	"fmt"
	"strings"

	"github.com/onecall-dev/onecall/internal/quote"
)

// The errors in this file say why a bus does not call the instances that the registry
// has.

// ServiceError says that no instance of an API serves the called proto service, and that
// instances serve another.
type ServiceError struct {
	// API is the bus name.
	API string
	// Service is the full proto name of the called service.
	Service string
	// Other is the full proto name of the service at Address.
	Other, Address string
	// Served says that an instance of the called service was known before.
	Served bool
}

// Error implements error.
func (e *ServiceError) Error() string {
	if e.Served {
		return fmt.Sprintf("API %q has no instance of the service %s now, only of others, such as %.100q at %s: start one", e.API, e.Service, e.Other, e.Address)
	}
	return fmt.Sprintf("API %q is served by %.100q, such as at %s, and this call is to %s: build the caller from the .proto of the instances, "+
		"start an instance of the called service, or give one of the two services another API name", e.API, e.Other, e.Address, e.Service)
}

// IdentityError says that an API has only instances without an incarnation, which
// option RequireIdentity forbids a bus to call.
type IdentityError struct {
	// API is the bus name.
	API string
	// Address is the address of such an instance.
	Address string
}

// Error implements error.
func (e *IdentityError) Error() string {
	return fmt.Sprintf("API %q: the instance at %s has no incarnation, so a call to it could run more than once, and option RequireIdentity has the bus not call it: "+
		"serve the API with framework.Serve, or leave the option out", e.API, e.Address)
}

// SchemaError says that an instance has a schema that is incompatible with the schema
// of this program. With option StrictSchema the bus does not call the instance.
type SchemaError struct {
	// API is the bus name. Address and Version are those of the instance.
	API, Address, Version string
	// Differences are the first 100 differences. Each has both sides, shortened.
	Differences []string
}

// shownDifferences is how many differences the text of the error shows at most.
const shownDifferences = 10

// Error implements error.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("API %q: the instance at %s (version %s) has a schema that is incompatible with the one of this program: %s; "+
		"build both from compatible .proto files, or leave StrictSchema out", e.API, quote.Line(e.Address, quote.TextLimit), quote.Text(e.Version), e.Shown())
}

// Shown returns the first differences as one text.
func (e *SchemaError) Shown() string {
	shown := strings.Join(e.Differences[:min(len(e.Differences), shownDifferences)], "; ")
	if more := len(e.Differences) - shownDifferences; more > 0 {
		shown += fmt.Sprintf("; and %d more", more)
	}
	return shown
}

// ConnectionError says that an API has instances and there is no connection to any of
// them, and why.
type ConnectionError struct {
	// API is the bus name.
	API string
	// Instances are the instances that the bus has tried to connect to, sorted by
	// address.
	Instances []UnconnectedError
}

// UnconnectedError says why there is no connection to an instance.
type UnconnectedError struct {
	// Address is the address of the instance.
	Address string
	// Cause is the error of the last attempt, nil while the first is under way.
	Cause error
	// Text describes Cause and its remedy.
	Text string
}

// Error implements error.
func (e UnconnectedError) Error() string { return e.Address + ": " + e.Text }

// Unwrap returns the cause.
func (e UnconnectedError) Unwrap() error { return e.Cause }

// shownInstances is how many instances the text of an error shows at most.
const shownInstances = 5

// Error implements error.
func (e *ConnectionError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "no connection to any instance of API %q", e.API)
	separator := ": "
	for _, instance := range e.Instances[:min(len(e.Instances), shownInstances)] {
		text.WriteString(separator + instance.Error())
		separator = "; "
	}
	if more := len(e.Instances) - shownInstances; more > 0 {
		fmt.Fprintf(&text, "; and %d more", more)
	}
	return text.String()
}

// Unwrap returns the errors of the instances.
func (e *ConnectionError) Unwrap() []error {
	errs := make([]error, len(e.Instances))
	for i, instance := range e.Instances {
		errs[i] = instance
	}
	return errs
}
