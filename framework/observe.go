package framework

import (
	"errors"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	"github.com/onecall-dev/onecall/framework/observe"
)

// Observer is notified of the events of a bus or a service: see [observe.Observer].
type Observer = observe.Observer

// Event is an event of which an [Observer] is notified: see [observe.Event].
type Event = observe.Event

// The events. Package observe documents their fields.
type (
	// CallEnded says that a call on a bus ended.
	CallEnded = observe.CallEnded
	// AttemptEnded says that one attempt of a call on a bus ended.
	AttemptEnded = observe.AttemptEnded
	// Retrying says that a bus waits and then makes another attempt.
	Retrying = observe.Retrying
	// CallSettled says that a bus asked an instance what became of a call.
	CallSettled = observe.CallSettled
	// OutageBegan says that a bus has no instance of an API that it calls.
	OutageBegan = observe.OutageBegan
	// OutageEnded says that a bus has an instance of an API again.
	OutageEnded = observe.OutageEnded
	// CallServed says that a service ended a call whose handler it had started.
	CallServed = observe.CallServed
	// CallRefused says that a service ended a call whose handler it had not started.
	CallRefused = observe.CallRefused
	// CertificateChanged says that the certificates of option TLS have changed.
	CertificateChanged = observe.CertificateChanged
	// CertificateExpiring says that a certificate of option TLS expires soon.
	CertificateExpiring = observe.CertificateExpiring
	// PolicyChanged says that the policy of option AuthorizeFile has changed.
	PolicyChanged = observe.PolicyChanged
	// RegistrationChanged says that the registration of a service has changed.
	RegistrationChanged = observe.RegistrationChanged
	// ShutdownBegan says that a service begins its graceful shutdown.
	ShutdownBegan = observe.ShutdownBegan
	// ShutdownEnded says that a service has shut down.
	ShutdownEnded = observe.ShutdownEnded
)

// Observe sets an observer of the events of a service or a bus. If the option is set
// several times, all observers are notified, in the order of the options. Events have
// no messages, metadata or secrets. Without an observer no event is made, and calls
// have no additional cost.
func Observe(observer Observer) Option {
	check := func() error {
		if observer == nil {
			return errors.New("option Observe: the observer is nil: leave the option out")
		}
		return nil
	}
	return bothOption{
		serveOption: func(o *server.Options) error {
			o.Observers = append(o.Observers, observer)
			return check()
		},
		busOption: func(o *client.Options) error {
			o.Observers = append(o.Observers, observer)
			return check()
		},
	}
}
