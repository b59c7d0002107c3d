package framework

import (
	"fmt"

	"github.com/onecall-dev/onecall/discovery"
)

// IdentityError says that an API has only instances without an incarnation, which
// [RequireIdentity] forbids a bus to call.
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

// requireIdentity returns an *[IdentityError] if RequireIdentity forbids to call an
// instance.
func (a *api) requireIdentity(instance discovery.Instance) error {
	if !a.bus.options.identified || !instance.Incarnation.IsZero() {
		return nil
	}
	return &IdentityError{API: a.name, Address: instance.Address}
}

// logAnonymous logs once that calls of the API have no identity.
func (a *api) logAnonymous(address string) {
	if a.anonymous.Swap(true) { // without a lock, because the program's logger may make such a call
		return
	}
	a.bus.options.log.Warn("calls to an instance carry no identity, because it has no incarnation: they may run more than once. "+
		"Serve the API with framework.Serve, or have option RequireIdentity refuse such instances", "api", a.name, "address", address)
}
