package framework

import (
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Event is what an [Observer] is notified of. A bus has the events [CallEnded],
// [AttemptEnded], [Retrying], [OutageBegan] and [OutageEnded]; a service has
// [CallServed], [CallRefused], [RegistrationChanged], [ShutdownBegan] and
// [ShutdownEnded]. More may come: an observer ignores those that it does not know.
type Event interface{ event() }

// CallEnded says that a call on a bus ended. There is one for each call, also for
// one that was never sent. A stream ends when its last message or its error was
// received.
type CallEnded struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Stream reports whether the RPC streams.
	Stream bool
	// Outcome says whether the handler ran; [Executed] if the call succeeded.
	Outcome Outcome
	// Code is that of the call's error, codes.OK if it succeeded.
	Code codes.Code
	// Duration is from the beginning of the call to its end, retries and waits
	// included.
	Duration time.Duration
	// Attempts is how often the call was handed to a connection. It is 0 if it
	// ended before that, such as for a request that breaks rules.
	Attempts int
}

// AttemptEnded says that one attempt of a call on a bus ended. A retry is another
// attempt.
type AttemptEnded struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Number is 1 for the first attempt of the call.
	Number int
	// Address and Incarnation are those of the instance that the attempt was sent
	// to, or bound to; empty and zero if there was none.
	Address     string
	Incarnation discovery.Incarnation
	// Outcome says whether the handler ran in this attempt.
	Outcome Outcome
	// Code is that of the attempt's error, codes.OK if it succeeded.
	Code codes.Code
	// Reason is why the instance refused it, "" if it did not, or sent no reason.
	Reason atmostonce.Reason
	// Duration is that of the attempt.
	Duration time.Duration
}

// Retrying says that a bus waits and then makes another attempt of a call.
type Retrying struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Number is that of the attempt to come: 2 for the first retry.
	Number int
	// Outcome, Code and Reason are those of the attempt that failed.
	Outcome Outcome
	Code    codes.Code
	Reason  atmostonce.Reason
}

// OutageBegan says that a bus has no instance of an API that it calls.
type OutageBegan struct {
	// API is the bus name, such as "auth".
	API string
	// Cause is why there is none, such as a *discovery.NoInstanceError.
	Cause error
}

// OutageEnded says that a bus has an instance of an API again.
type OutageEnded struct {
	// API is the bus name, such as "auth".
	API string
	// Duration is that of the outage.
	Duration time.Duration
}

// CallServed says that a service ended a call whose handler it had started.
type CallServed struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Stream reports whether the RPC streams.
	Stream bool
	// Code is that of the error, codes.OK if the call succeeded.
	Code codes.Code
	// Duration is from the arrival of the call to its end, in all places of the
	// chain.
	Duration time.Duration
}

// CallRefused says that a service ended a call whose handler it had not started.
// Each call ends in [CallServed] or CallRefused.
type CallRefused struct {
	// RPC is the bus name, such as "auth.check_password", or gRPC's path of a
	// method that the service does not have.
	RPC string
	// Stream reports whether the RPC streams.
	Stream bool
	// Code is that of the error, such as codes.Unauthenticated.
	Code codes.Code
	// Reason is that of admission; "" if another place of the chain refused the
	// call.
	Reason atmostonce.Reason
	// Duration is from the arrival of the call to its end.
	Duration time.Duration
}

// RegistrationChanged says that a service was registered, or is registered no
// more, or that an error keeps the registry from being written or no longer does.
type RegistrationChanged struct {
	// Registered reports whether all APIs of the service are registered.
	Registered bool
	// Err is what keeps the registry from being written, nil if nothing does.
	Err error
}

// ShutdownBegan says that a service begins its graceful shutdown.
type ShutdownBegan struct {
	// Timeout is how long it takes at most: see [ShutdownTimeout].
	Timeout time.Duration
}

// ShutdownEnded says that a service has shut down.
type ShutdownEnded struct {
	// Err is what Serve returns, nil if every call ended by itself.
	Err error
	// Duration is that of the shutdown.
	Duration time.Duration
}

func (CallEnded) event()           {}
func (AttemptEnded) event()        {}
func (Retrying) event()            {}
func (OutageBegan) event()         {}
func (OutageEnded) event()         {}
func (CallServed) event()          {}
func (CallRefused) event()         {}
func (RegistrationChanged) event() {}
func (ShutdownBegan) event()       {}
func (ShutdownEnded) event()       {}
