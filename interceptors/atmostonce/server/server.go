package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// The defaults of [Config].
const (
	DefaultMaxSessionsPerPrincipal = 10_000
	DefaultMaxSessions             = 100_000
	DefaultMaxKept                 = 64 << 20
	DefaultMaxKeptPerSession       = 64 << 10
	DefaultKeepLost                = 10 * time.Minute
)

// Config configures a [Server].
type Config struct {
	// Incarnation is the instance's own. It is required, and must be new for each
	// start of the process.
	Incarnation discovery.Incarnation
	// RequireIdentity refuses calls without an identity. Otherwise they are
	// served, any number of times, and counted.
	RequireIdentity bool
	// MaxSessionsPerPrincipal is how many sessions one principal may have. A
	// principal is whom [WithPrincipal] or the peer's certificate names, else the
	// peer's host. 0 is [DefaultMaxSessionsPerPrincipal].
	MaxSessionsPerPrincipal int
	// MaxSessions is how many sessions all principals may have together. 0 is
	// [DefaultMaxSessions], which take some 10 MB when idle, and 160 MB when
	// every one of them called within the last minute.
	MaxSessions int
	// KeepsReply reports whether the replies and errors of an RPC, by gRPC's path, may
	// be kept for callers that did not receive them. It is called once for each RPC of
	// an instrumented service. When nil, none are. Of what is not kept, callers can
	// still learn whether the call ran, and the code of its error.
	KeepsReply func(method string) bool
	// MaxKept is how many bytes all kept replies and errors may take. When they are
	// full, the oldest go: first those whose caller most likely received them, which
	// are kept for 10 s, and only if they take a sixteenth of this at most. 0 is
	// [DefaultMaxKept].
	MaxKept int
	// MaxKeptPerSession is how many bytes the replies and errors of one session may take
	// whose caller most likely received them. One that is larger is kept until the next
	// of this kind. 0 is [DefaultMaxKeptPerSession].
	MaxKeptPerSession int
	// KeepLost is how long a reply or error is kept whose caller had gone when the
	// call ended: its context had ended, or it asks what became of the call. It is
	// rounded down to seconds, and is at least one. 0 is [DefaultKeepLost].
	KeepLost time.Duration
	// Ledger is called before each identified call, besides the instance's own
	// memory. With it, calls that are bound to another incarnation are served, for
	// which a proxy picked this instance. When nil they are refused. If it is an
	// [atmostonce.SettlingLedger], the server also answers what became of the calls
	// that other instances with the ledger served.
	Ledger atmostonce.Ledger
	// Around, when not nil, wraps each unary method of an instrumented service, such as
	// to recover its panics. It runs outside of BeforeUnary and the admission. What it
	// returns is sent to the caller and kept, so nothing else may change the result of
	// an instrumented method. It must pass on a context that derives from its own.
	Around func(path string, method grpc.MethodHandler) grpc.MethodHandler
	// AroundStream, when not nil, is the same for streams of all services.
	AroundStream grpc.StreamServerInterceptor
	// Exempt reports whether a service, by its full proto name, is served without
	// regard to identities, such as gRPC's health service. When nil, none is.
	Exempt func(service string) bool
	// BeforeUnary and BeforeStream, when not nil, run around the admission and the
	// handler of each call of a service that is not exempt, such as to authenticate
	// it. A call that they refuse takes no session, learns no rule and writes to no
	// ledger. A unary call's request is not read yet: it is nil to them. The context
	// that they call their handler with must derive from the one that they are
	// called with, and is the handler's. [WithPrincipal] sets on it who the caller
	// is.
	BeforeUnary  grpc.UnaryServerInterceptor
	BeforeStream grpc.StreamServerInterceptor
	// AfterUnary and InnerUnary, when not nil, run around each unary call of an
	// instrumented service whose request was read: AfterUnary outside of the gRPC server's
	// interceptors, and InnerUnary inside of them. A call that they refuse has not started
	// its handler. Unlike a grpc.ChainUnaryInterceptor they cost a call no allocation,
	// because their handlers find the call in the context. So the context that they pass on
	// must derive from the one that they are called with. [Pin] makes sure of that.
	AfterUnary, InnerUnary grpc.UnaryServerInterceptor
	// Handle, when not nil, calls the handlers of unary calls of instrumented
	// services, such as to recover their panics.
	Handle func(ctx context.Context, req any, handler grpc.UnaryHandler) (any, error)
	// Outlives reports whether the contexts of calls of a unary method, by gRPC's path,
	// go on when the connection of their caller is lost, until their deadline. When nil,
	// none does.
	Outlives func(path string) bool
	// Log gets a line for each method that is refused because it calls no
	// interceptor. When nil, [slog.Default].
	Log *slog.Logger
}

// Server is the server's half of the promise: it admits each identity once, and
// reports with each error whether the handler ran. Make one with [New] for each
// incarnation. Its methods are safe for all goroutines.
type Server struct {
	config      Config
	incarnation string
	sessions    *sessions
	// ledger is that of the config, if it remembers what became of calls, and recorder
	// writes that. Otherwise they are nil.
	ledger   atmostonce.SettlingLedger
	recorder *recorder

	draining  atomic.Bool
	drained   chan struct{} // closed when draining is set
	anonymous atomic.Uint64
	settled   [fateRunning + 1]atomic.Uint64       // answers to questions, by fate
	refused   map[atmostonce.Reason]*atomic.Uint64 // never changed

	instrumenting sync.Mutex // held while instrumented is replaced
	// instrumented has the paths of the streams of instrumented services, and whether
	// their errors may be kept.
	instrumented atomic.Pointer[map[string]bool]

	// life ends when calls that go on without their connection must end.
	life     context.Context //nolint:containedctx // of a running thing
	endCalls context.CancelFunc

	stop    context.CancelFunc
	stopped chan struct{}
}

// New returns a server, which runs goroutines until [Server.Close]. An invalid
// config is an error that names the field.
func New(config Config) (*Server, error) {
	s, err := newServer(config, time.Now)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop, s.stopped = stop, make(chan struct{})
	if s.ledger != nil {
		s.recorder = newRecorder(s.ledger)
	}
	go s.run(ctx)
	return s, nil
}

// newServer returns a server without a goroutine, so that no session is forgotten.
func newServer(config Config, now func() time.Time) (*Server, error) {
	each, all := config.MaxSessionsPerPrincipal, config.MaxSessions
	switch {
	case config.Incarnation.IsZero():
		return nil, errors.New("the field Incarnation is zero: draw one with discovery.NewIncarnation")
	case each < 0:
		return nil, fmt.Errorf("MaxSessionsPerPrincipal is %d: set 1 or more, or 0 for the default", each)
	case all < 0:
		return nil, fmt.Errorf("MaxSessions is %d: set 1 or more, or 0 for the default", all)
	case config.MaxKept < 0:
		return nil, fmt.Errorf("MaxKept is %d: set 1 or more, or 0 for the default", config.MaxKept)
	case config.MaxKeptPerSession < 0:
		return nil, fmt.Errorf("MaxKeptPerSession is %d: set 1 or more, or 0 for the default", config.MaxKeptPerSession)
	case config.KeepLost < 0:
		return nil, fmt.Errorf("KeepLost is %v: set a second or more, or 0 for the default", config.KeepLost)
	case all > 0 && all < each:
		return nil, fmt.Errorf("MaxSessions is %d, and MaxSessionsPerPrincipal %d: set the limit of all to that of one or more", all, each)
	}
	if config.MaxSessionsPerPrincipal == 0 {
		config.MaxSessionsPerPrincipal = DefaultMaxSessionsPerPrincipal
	}
	if config.MaxSessions == 0 {
		config.MaxSessions = DefaultMaxSessions
	}
	if config.Exempt == nil {
		config.Exempt = func(string) bool { return false }
	}
	if config.Outlives == nil {
		config.Outlives = func(string) bool { return false }
	}
	if config.Log == nil {
		config.Log = slog.Default()
	}
	s := &Server{
		config:      config,
		incarnation: config.Incarnation.String(),
		sessions:    newSessions(config.MaxSessionsPerPrincipal, config.MaxSessions, now),
		drained:     make(chan struct{}),
		refused:     make(map[atmostonce.Reason]*atomic.Uint64),
	}
	s.sessions.keeping = newKeeping(config)
	s.ledger, _ = config.Ledger.(atmostonce.SettlingLedger)
	for _, reason := range atmostonce.Reasons() {
		s.refused[reason] = new(atomic.Uint64)
	}
	s.instrumented.Store(&map[string]bool{})
	s.life, s.endCalls = context.WithCancel(context.Background())
	return s, nil
}

// run sweeps the sessions, so that the memory of idle ones is freed even if no
// calls come.
func (s *Server) run(ctx context.Context) {
	defer close(s.stopped)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			// One tick, however much time passed: time in which the process
			// did not run does not count as idle.
			s.sessions.sweep(1)
		}
	}
}

// Close ends the server's goroutines and waits for them. With a ledger that remembers what
// became of calls, it first writes that, for 2 s at most. Afterwards calls are admitted
// and refused as before, but no session is forgotten: close it after the gRPC
// server has stopped. It may be called again.
func (s *Server) Close() {
	s.endCalls()
	s.stop()
	<-s.stopped
	s.recorder.close()
}

// Drain refuses identified calls from now on, with [atmostonce.Draining]. Each is
// marked first, so that no copy of it runs either. It closes the channel that
// handlers have from [DrainOf]. It may be called again.
func (s *Server) Drain() {
	if s.draining.CompareAndSwap(false, true) {
		close(s.drained)
	}
}

// Stats is what a server has counted since it was made.
type Stats struct {
	// Sessions is how many there are now, and Collapsed how many of these are
	// idle, so that only their highest number is kept.
	Sessions, Collapsed int
	// Principals is how many callers have these sessions.
	Principals int
	// Admitted is how many identities were marked, [atmostonce.Draining]'s included.
	Admitted uint64
	// Kept is how many bytes the replies and errors take that are kept.
	Kept int64
	// Settled counts the answers to questions about calls.
	Settled SettleStats
	// Unrecorded is how many ends of calls could not be written to the ledger.
	Unrecorded uint64
	// WithoutIdentity is how many calls without an identity were served.
	WithoutIdentity uint64
	// Refused is how many calls were refused, for every reason.
	Refused map[atmostonce.Reason]uint64
}

// SettleStats counts what was answered to callers that asked what became of a call: that
// it was refused, that it runs, that it was executed, and nothing.
type SettleStats struct{ Refused, Running, Executed, Unknown uint64 }

// Stats returns the counters. It locks and counts all sessions: call it to export
// the counters, not with each call.
func (s *Server) Stats() Stats {
	stats := Stats{WithoutIdentity: s.anonymous.Load(), Refused: make(map[atmostonce.Reason]uint64, len(s.refused))}
	stats.Sessions, stats.Collapsed, stats.Admitted = s.sessions.count()
	stats.Kept = s.sessions.kept.Load()
	stats.Settled = SettleStats{
		Refused: s.settled[fateRefused].Load(), Running: s.settled[fateRunning].Load(),
		Executed: s.settled[fateOK].Load() + s.settled[fateFailed].Load(), Unknown: s.settled[fateUnknown].Load(),
	}
	if s.recorder != nil {
		stats.Unrecorded = s.recorder.dropped.Load()
	}
	stats.Principals = s.sessions.quota.principals()
	for reason, count := range s.refused {
		stats.Refused[reason] = count.Load()
	}
	return stats
}
