// Package observe has the events of buses and services, and the interface of those who
// observe them. Option framework.Observe sets an observer.
package observe

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Observer is notified of the events of a bus or a service, for metrics, logs and tests.
type Observer interface {
	// Observe is called after an event, on the goroutine of the event. This is often
	// the goroutine of a call, which waits, so Observe must be fast. It is called from
	// many goroutines at once. The framework holds no lock then: Observe may call
	// methods of the bus or the service, except methods that wait for the end of
	// calls, such as [Bus.Close]. If it panics, the panic is logged and the call goes
	// on.
	//
	// ctx is the context of the event's call. At a service it has the values that
	// [Authenticate] and interceptors before admission set. For an event without a
	// call it is [context.Background].
	Observe(ctx context.Context, event Event)
}

// Event is an event of which an [Observer] is notified. A bus has the events
// [CallEnded], [AttemptEnded], [Retrying], [CallSettled], [OutageBegan] and
// [OutageEnded]. A service has [CallServed], [CallRefused], [RegistrationChanged],
// [PolicyChanged], [ShutdownBegan] and [ShutdownEnded]. Both have [CertificateChanged] and
// [CertificateExpiring]. Later versions may add events: an observer must ignore events that
// it does not know.
type Event interface{ event() }

// CallEnded says that a call on a bus ended. Each call has one, also if it was never
// sent. A stream ends when its last message or its error is received.
type CallEnded struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Stream reports whether the RPC streams.
	Stream bool
	// Outcome says whether the handler ran. It is [atmostonce.Executed] if the call succeeded.
	Outcome atmostonce.Outcome
	// Code is the code of the call's error, codes.OK if it succeeded.
	Code codes.Code
	// Duration is the time from the beginning of the call to its end, with retries
	// and waits.
	Duration time.Duration
	// Attempts is the number of attempts. It is 0 if the call ended before the first
	// attempt, for example because the request breaks rules.
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
	// to, or bound to. They are empty and zero if there was none.
	Address     string
	Incarnation discovery.Incarnation
	// Outcome says whether the handler ran in this attempt.
	Outcome atmostonce.Outcome
	// Code is the code of the attempt's error, codes.OK if it succeeded.
	Code codes.Code
	// Reason is why the instance refused the attempt. It is "" if the instance did
	// not refuse it or sent no reason.
	Reason atmostonce.Reason
	// Duration is the duration of the attempt.
	Duration time.Duration
}

// Retrying says that a bus waits and then makes another attempt of a call.
type Retrying struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Number is the number of the next attempt: 2 for the first retry.
	Number int
	// Outcome, Code and Reason are those of the failed attempt.
	Outcome atmostonce.Outcome
	Code    codes.Code
	Reason  atmostonce.Reason
}

// CallSettled says that a bus asked an instance what became of a call whose outcome was
// unknown: by itself, or because the program called Settle or SettleToken.
type CallSettled struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Address and Incarnation are those of the instance.
	Address     string
	Incarnation discovery.Incarnation
	// Outcome is what the instance answered. It is Unknown if the call had not ended, or
	// nothing could be learned.
	Outcome atmostonce.Outcome
	// Code is the code with which an executed call ended, codes.OK if it succeeded. It
	// is codes.DataLoss if the instance did not keep its reply, codes.Unknown if it did
	// not keep its error, and codes.OK for other outcomes.
	Code codes.Code
	// Forgotten reports whether nothing can be learned any more: see framework.ErrForgotten.
	Forgotten bool
	// Duration is the time from the question to the answer.
	Duration time.Duration
}

// OutageBegan says that a bus has no instance of an API that it calls.
type OutageBegan struct {
	// API is the bus name, such as "auth".
	API string
	// Cause is why there is no instance, such as a *discovery.NoInstanceError.
	Cause error
}

// OutageEnded says that a bus has an instance of an API again.
type OutageEnded struct {
	// API is the bus name, such as "auth".
	API string
	// Duration is the duration of the outage.
	Duration time.Duration
}

// CallServed says that a service ended a call whose handler it had started.
type CallServed struct {
	// RPC is the bus name, such as "auth.check_password".
	RPC string
	// Stream reports whether the RPC streams.
	Stream bool
	// Code is the code of the error, codes.OK if the call succeeded.
	Code codes.Code
	// Duration is the time from the arrival of the call to its end, with all
	// interceptors.
	Duration time.Duration
}

// CallRefused says that a service ended a call whose handler it had not started.
// Each call ends in [CallServed] or CallRefused.
type CallRefused struct {
	// RPC is the bus name, such as "auth.check_password". If the service does not have
	// the method, it is gRPC's path.
	RPC string
	// Stream reports whether the RPC streams.
	Stream bool
	// Code is the code of the error, such as codes.Unauthenticated.
	Code codes.Code
	// Reason is why admission refused the call, "" if something else refused it.
	Reason atmostonce.Reason
	// Duration is the time from the arrival of the call to its end.
	Duration time.Duration
}

// RegistrationChanged says that a service is now registered or no longer registered, or
// that the error of writing to the registry has changed.
type RegistrationChanged struct {
	// Registered reports whether all APIs of the service are registered.
	Registered bool
	// Err is the error of writing to the registry, nil if there is none.
	Err error
}

// ShutdownBegan says that a service begins its graceful shutdown.
type ShutdownBegan struct {
	// Timeout is how long it takes at most: see [ShutdownTimeout].
	Timeout time.Duration
}

// ShutdownEnded says that a service has shut down.
type ShutdownEnded struct {
	// Err is the error that Serve returns, nil if there was none.
	Err error
	// Duration is the duration of the shutdown.
	Duration time.Duration
}

func (CallEnded) event()           {}
func (AttemptEnded) event()        {}
func (Retrying) event()            {}
func (CallSettled) event()         {}
func (OutageBegan) event()         {}
func (OutageEnded) event()         {}
func (CallServed) event()          {}
func (CallRefused) event()         {}
func (RegistrationChanged) event() {}
func (ShutdownBegan) event()       {}
func (ShutdownEnded) event()       {}
