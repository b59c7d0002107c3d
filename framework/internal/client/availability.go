package client

import (
	"errors"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/discovery"
)

// availability records whether an API has an instance that a channel may call. Calls
// read it without a lock, before and after each attempt.
type availability struct {
	// reason is nil while there is an instance.
	reason atomic.Pointer[unavailable]
	// outages counts the outages. Only observe uses it, and the resolver never calls
	// observe concurrently.
	outages uint64
}

// unavailable is the reason why a channel has no instance.
type unavailable struct {
	err error
	// outage is the number of the outage. If two values have the same number, no
	// instance was available in between, so no call can have been sent.
	outage uint64
}

// code returns the code of a call that found no instance.
func (u *unavailable) code() codes.Code { return codeOf(u.err) }

// codeOf returns the code of a call that found no instance because of err.
func codeOf(err error) codes.Code {
	if _, unknown := errors.AsType[*discovery.UnknownAPIError](err); unknown {
		return codes.Unimplemented
	}
	if other, ok := errors.AsType[*discovery.ServiceError](err); ok && !other.Served {
		return codes.Unimplemented
	}
	if _, anonymous := errors.AsType[*discovery.IdentityError](err); anonymous {
		return codes.FailedPrecondition
	}
	if _, incompatible := errors.AsType[*discovery.SchemaError](err); incompatible {
		return codes.FailedPrecondition
	}
	return codes.Unavailable
}

// observe sets the reason why there is no instance, nil if there is one. The resolver
// calls it: see [resolver.Config].
func (a *availability) observe(err error) {
	if err == nil {
		a.reason.Store(nil)
		return
	}
	if a.reason.Load() == nil {
		a.outages++
	}
	a.reason.Store(&unavailable{err: err, outage: a.outages})
}

// now returns the reason why there is no instance now, or nil.
func (a *availability) now() *unavailable { return a.reason.Load() }

// since returns the reason why there is no instance now, if there has been none since
// before was returned. Otherwise it returns nil.
func (a *availability) since(before *unavailable) *unavailable {
	now := a.now()
	if before == nil || now == nil || before.outage != now.outage {
		return nil
	}
	return now
}
