// Package discovery says where the instances of APIs are found.
//
// A [Registry] keeps what programs register and notifies callers of it. The
// packages below this one implement it: etcd for services, memory for tests;
// discoverytest is the suite that each of them passes.
package discovery

import (
	"context"
	"time"
)

// Registry is where instances are registered and found. Its methods are safe
// for all goroutines. Register and Watch do no I/O before they return: the
// [Registration] and the [Snapshot] report what the registry answers, and its errors.
//
// Close is not part of the interface: a program closes the registry that it opened,
// after its registrations and watches.
type Registry interface {
	// Register keeps instances registered, through every failure of the registry,
	// until the registration is closed. Register the instances of one process
	// together. If an instance cannot be registered, such as one without an address,
	// the error is an *[InstanceError], and none is registered.
	Register(instances ...Instance) (Registration, error)

	// Watch calls notify with what is known of an API: first as soon as anything is
	// known, an error included, then at every change. Calls come one at a time, in
	// order, the first perhaps before Watch returns. Notify must return quickly. It
	// may call the registry, but not its own stop.
	//
	// After stop has returned, notify is not called again. Stop may be called more
	// than once.
	Watch(api string, notify func(Snapshot)) (stop func())

	// Descriptors returns the descriptors with which an instance of a [Snapshot] was
	// registered, "" if there are none. It asks the registry, within ctx.
	Descriptors(ctx context.Context, instance Instance) (string, error)
}

// Registration is the result of [Registry.Register]. Its methods are safe for all
// goroutines.
type Registration interface {
	// Status returns whether the instances are registered now.
	Status() Status

	// Drain asks callers to send no new calls: the instances stay registered, as
	// [Draining], until Close. It returns when the registry has them so, or, when ctx
	// ends, why it has not. If nothing was ever sent to the registry, no caller knows
	// the instances, and Drain returns nil at once.
	Drain(ctx context.Context) error

	// Close removes the instances from the registry and ends all work on them. If ctx
	// ends first, it returns the reason; what it could not remove ends with its lease.
	// If nothing was ever sent to the registry, there is nothing to remove, and Close
	// returns nil at once. A second Close waits for the same.
	Close(ctx context.Context) error
}

// AwaitRegistered returns when all instances of a registration are in the registry.
// If ctx ends first, it returns why they are not, or else ctx's error.
func AwaitRegistered(ctx context.Context, registration Registration) error {
	for {
		status := registration.Status()
		if status.Registered {
			return nil
		}
		select {
		case <-status.Changed:
		case <-ctx.Done():
			if status.Err != nil {
				return status.Err
			}
			return ctx.Err()
		}
	}
}

// Status is the state of a registration.
type Status struct {
	// Registered says that the registry has all instances, as far as this process
	// knows.
	Registered bool
	// Since is when Registered became what it is.
	Since time.Time
	// Expires is when the instances vanish from the registry if this process does not
	// renew them; zero if they would not, or are not registered.
	Expires time.Time
	// Err is why the registry cannot be written; nil if it can.
	Err error
	// Changed is closed at the next change of Registered, or of Err from nil or
	// to nil.
	Changed <-chan struct{}
}
