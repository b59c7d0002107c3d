package framework

import (
	"errors"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Outcome is what is known of a call that failed: did its handler start?
type Outcome = atmostonce.Outcome

// The outcomes.
const (
	// Unknown: the call may have run or not. All is unknown that is not known
	// for certain, deadlines and broken connections included.
	Unknown = atmostonce.Unknown
	// NotSent: the call never left, so it did not run and never will.
	NotSent = atmostonce.NotSent
	// Refused: the instance that the call was bound to says that it did not run
	// the handler, so it never will.
	Refused = atmostonce.Refused
	// Executed: the handler ran, and this is its error.
	Executed = atmostonce.Executed
)

// OutcomeOf returns the outcome of a call from its error: of nil it is
// [Executed], of an error that is not from a bus [Unknown]. It is that of the
// call's last attempt; the attempts before it did not run, unless the RPC declares
// that it may run more than once.
func OutcomeOf(err error) Outcome {
	if err == nil {
		return Executed
	}
	if failed, ok := errors.AsType[*callError](err); ok {
		return failed.outcome
	}
	return Unknown
}
