package client

import (
	"github.com/onecall-dev/onecall/discovery"
)

// requireIdentity returns an *[discovery.IdentityError] if RequireIdentity forbids to call an
// instance.
func (a *api) requireIdentity(instance discovery.Instance) error {
	if !a.bus.options.RequireIdentity || !instance.Incarnation.IsZero() {
		return nil
	}
	return &discovery.IdentityError{API: a.name, Address: instance.Address}
}

// logAnonymous logs once that calls of the API have no identity.
func (a *api) logAnonymous(address string) {
	if a.anonymous.Swap(true) { // without a lock, because the program's logger may make such a call
		return
	}
	a.bus.options.Log.Warn("calls to an instance carry no identity, because it has no incarnation: they may run more than once. "+
		"Serve the API with framework.Serve, or have option RequireIdentity refuse such instances", "api", a.name, "address", address)
}
