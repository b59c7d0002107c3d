package server

import (
	"context"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework/internal/notifier"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Options are the options of a service. The options of package framework set them, and
// document them.
type Options struct {
	Listen func(context.Context) (net.Listener, error)
	// Listener is the program's own, which Listen returns. It is nil if there is none.
	Listener        net.Listener
	AdvertiseAs     string
	ShutdownTimeout time.Duration
	Log             *slog.Logger
	Observers       []observe.Observer
	Server          []grpc.ServerOption
	Zone            string
	StrictSchema    bool
	ExposeErrors    bool
	// Authenticated says that Before authenticates.
	Authenticated bool

	// The admission of calls: see framework.AdmissionConfig.
	RequireIdentity                      bool
	MaxSessionsPerPrincipal, MaxSessions int
	Ledger                               atmostonce.Ledger

	// Before and After are the program's interceptors before and after admission.
	Before, After Interceptors

	// notify notifies the observers, nil if there are none. Start sets it.
	notify *notifier.Notifier
}

// CloseListener closes the program's own listener, if there is one.
func (o Options) CloseListener() error {
	if o.Listener == nil {
		return nil
	}
	return o.Listener.Close()
}
