package framework

import (
	"errors"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/discovery"
)

// finding is how an API's instances are being found. Calls read it without a
// lock, before and after.
type finding struct {
	// problem is nil while there is an instance.
	problem atomic.Pointer[problem]
	spells  uint64 // only the registry's watch, or nobody, is at work
}

// problem is why no instance can be found.
type problem struct {
	err error
	// spell counts the times without an instance. Two problems of one spell
	// had no instance between them, so no call can have been sent.
	spell uint64
}

// code is the code of a call that met the problem.
func (p *problem) code() codes.Code {
	if _, unknown := errors.AsType[*discovery.UnknownAPIError](p.err); unknown {
		return codes.Unimplemented
	}
	if other, ok := errors.AsType[*ServiceError](p.err); ok && !other.Served {
		return codes.Unimplemented
	}
	if _, anonymous := errors.AsType[*IdentityError](p.err); anonymous {
		return codes.FailedPrecondition
	}
	if _, incompatible := errors.AsType[*SchemaError](p.err); incompatible {
		return codes.FailedPrecondition
	}
	return codes.Unavailable
}

// observe is told why there is no instance, nil when there is one.
func (f *finding) observe(err error) {
	if err == nil {
		f.problem.Store(nil)
		return
	}
	if f.problem.Load() == nil {
		f.spells++
	}
	f.problem.Store(&problem{err: err, spell: f.spells})
}

// now gives the present problem, or nil.
func (f *finding) now() *problem { return f.problem.Load() }

// throughout gives the present problem if there was no instance at any time
// since before, else nil.
func (f *finding) throughout(before *problem) *problem {
	now := f.now()
	if before == nil || now == nil || before.spell != now.spell {
		return nil
	}
	return now
}
