package framework

import (
	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Outcome is what is known of a failed call: whether its handler started.
type Outcome = atmostonce.Outcome

// The outcomes.
const (
	// Unknown means that the handler may have started or not. It is the outcome of
	// every call for which neither is certain, such as after a deadline or a broken
	// connection.
	Unknown = atmostonce.Unknown
	// NotSent means that the call was not sent, so it did not run and never will.
	NotSent = atmostonce.NotSent
	// Refused means that the instance to which the call is bound reports that it did
	// not run the handler, so it never will.
	Refused = atmostonce.Refused
	// Executed means that the handler ran, and the error is its error.
	Executed = atmostonce.Executed
)

// OutcomeOf returns the outcome of a call from its error. It is [Executed] for nil and
// [Unknown] for an error that is not from a bus. It is the outcome of the call's last
// attempt. The attempts before it did not run, unless the RPC declares that it may run
// more than once.
func OutcomeOf(err error) Outcome { return callerr.OutcomeOf(err) }
