package server

import (
	"context"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework/internal/admin"
	"github.com/onecall-dev/onecall/framework/internal/ended"
	"github.com/onecall-dev/onecall/framework/internal/meter"
	"github.com/onecall-dev/onecall/framework/internal/notifier"
	"github.com/onecall-dev/onecall/framework/internal/tlsfiles"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/telemetry"
)

// Options are the options of a service. The options of package framework set them, and
// document them.
type Options struct {
	Listen func(context.Context) (net.Listener, error)
	// Listener is the program's own, which Listen returns. It is nil if there is none.
	Listener    net.Listener
	AdvertiseAs string
	// SocketDir is the directory for the unix socket, "" for the default. NoSocket says that
	// there is none.
	SocketDir       string
	NoSocket        bool
	ShutdownTimeout time.Duration
	// LameDuck is for how long a shutdown goes on accepting calls, and TerminationGrace
	// after how long the platform kills the process, 0 if that is not known.
	LameDuck, TerminationGrace time.Duration
	Log                        *slog.Logger
	Observers                  []observe.Observer
	Server                     []grpc.ServerOption
	Zone                       string
	StrictSchema               bool
	ExposeErrors               bool
	// TLS are the files of the service's certificates, nil if there are none.
	TLS *tlsfiles.Files
	// Insecure allows plain text on every address.
	Insecure bool
	// Authenticated says that Before authenticates.
	Authenticated bool

	// The admission of calls: see framework.AdmissionConfig.
	RequireIdentity                      bool
	MaxSessionsPerPrincipal, MaxSessions int
	Ledger                               atmostonce.Ledger
	MaxKept, MaxKeptPerSession           int
	KeepLost                             time.Duration

	// Limits are the limits on clients, and InFlight how many calls of an API may be
	// under way, by its name; "" is for all others.
	Limits   Limits
	InFlight map[string]int

	// Before and After are the program's interceptors before and after admission.
	Before, After Interceptors

	// Policy says who may call what, by bus name, and PolicyFile is a file that does. One
	// of them is set if calls are authorized.
	Policy     map[string][]string
	PolicyFile string

	// Tracer makes spans, nil if none are made.
	Tracer observe.Tracer
	// LogCalls says that calls are logged.
	LogCalls bool
	// Watchers look at single calls, with the log of calls once Start has made it.
	Watchers ended.Watchers
	// Admin serves the status page, nil if there is none.
	Admin *admin.Server
	// Metrics are those that the service is a source of, nil if there are none.
	Metrics *telemetry.Metrics

	// Start sets the fields below.

	// notify notifies the observers, nil if there are none.
	notify *notifier.Notifier
	// meters count calls, nil without metrics.
	meters *meter.Set
	// callLog is the log of calls, nil if they are not logged.
	callLog *ended.Log
}

// prepared returns the options with what Start sets. The caller must close callLog.
func (o Options) prepared() Options {
	o.notify = notifier.New(o.Log, o.Observers)
	o.meters = meter.NewSet(meter.Server, o.Metrics)
	if o.LogCalls {
		o.callLog = ended.NewLog(o.Log)
		o.Watchers = append(o.Watchers, o.callLog)
	}
	return o
}

// CloseListener closes the program's own listener, if there is one.
func (o Options) CloseListener() error {
	if o.Listener == nil {
		return nil
	}
	return o.Listener.Close()
}
