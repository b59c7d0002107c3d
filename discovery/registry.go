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
// for all goroutines. Register and Watch do no I/O before they return: what the
// registry itself has to say comes through the [Registration] and the
// [Snapshot].
//
// Close is not part of the interface: who opens a registry closes it, after
// its registrations and watches.
type Registry interface {
	// Register begins to keep instances registered and goes on, through every
	// fault of the registry, until the registration is closed. The instances
	// of one process belong in one registration. An instance that cannot be
	// registered, such as one without an address, is an *[InstanceError].
	Register(instances ...Instance) (Registration, error)

	// Watch notifies observer of what is known of an API: first as soon as anything
	// is known, an error included, then at every change. Calls come one at a
	// time, in order, the first perhaps before Watch returns. An observer is
	// quick. It may call the registry, but not its own stop.
	//
	// After stop has returned, observer is not called again. Stop may be
	// called more than once.
	Watch(api string, observer func(Snapshot)) (stop func())

	// Descriptors returns what an instance of a [Snapshot] was registered with
	// as its Descriptors. It asks the registry, within ctx. When there are none
	// it returns "".
	Descriptors(ctx context.Context, instance Instance) (string, error)
}

// Registration is what [Registry.Register] keeps. Its methods are safe for all
// goroutines.
type Registration interface {
	// Status returns whether the instances are registered now.
	Status() Status

	// Drain asks callers to send nothing new: the instances stay, as
	// [Draining], until Close. It returns when the registry has taken it, or
	// with the reason why not once ctx ends. When nothing was ever sent to the
	// registry, no caller knows of the instances, and Drain returns nil at once.
	Drain(ctx context.Context) error

	// Close takes the instances out of the registry and ends all work on
	// them. When ctx ends first it returns the reason; what it could not take
	// out ends by its lease. When nothing was ever sent to the registry, nothing
	// is to be taken out, and Close returns nil at once. A second Close waits for
	// the same.
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

// Status is how a registration stands.
type Status struct {
	// Registered is whether all instances stand in the registry as they should,
	// as far as this process knows.
	Registered bool
	// Since is when Registered became what it is.
	Since time.Time
	// Expires is when the instances vanish from the registry if it hears no
	// more of this process; zero when they would not, or do not stand there.
	Expires time.Time
	// Err is what keeps the registry from being written; nil when nothing does.
	Err error
	// Changed is closed at the next change of Registered, or of Err from nil or
	// to nil.
	Changed <-chan struct{}
}
