// Package ended has the calls that have ended, for those who look at single calls: the log
// of calls, and the status page.
package ended

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Call is a call that has ended. It has no message and no secret.
type Call struct {
	// At is when the call ended.
	At time.Time
	// Served reports whether a service served it. Otherwise a bus made it.
	Served bool
	// RPC is the bus name, such as "auth.check_password".
	RPC     string
	Stream  bool
	Outcome atmostonce.Outcome
	Code    codes.Code
	Took    time.Duration
	// Attempts and Address, of the last instance, are those of a call that a bus made.
	Attempts int
	Address  string
	// ID is a hash of the call's identity, the same on both sides; "" without one.
	ID string
	// Err is the error of the call in one line, "" if it succeeded.
	Err string
}

// Watcher looks at single calls. Its methods are called from many goroutines at once, while
// the call waits.
type Watcher interface {
	// Wants reports whether to call Add for a call. It is called for each call, so it
	// must cost next to nothing.
	Wants(ctx context.Context, code codes.Code, took time.Duration) bool
	// Add passes on a call. It must not block.
	Add(ctx context.Context, call Call)
}

// Watchers are all watchers of a service or a bus.
type Watchers []Watcher

// Ended passes on a call that has ended to those who want it. describe makes it.
func (w Watchers) Ended(ctx context.Context, code codes.Code, took time.Duration, describe func() Call) {
	for _, watcher := range w {
		if watcher.Wants(ctx, code, took) {
			watcher.Add(ctx, describe())
		}
	}
}

// ID returns the hash of an identity: the begin of the key that it has in a ledger. An
// identity is a secret.
func ID(identity atmostonce.Identity) string {
	const length = 16
	if identity.Incarnation.IsZero() {
		return ""
	}
	return atmostonce.LedgerKey(identity)[:length]
}

// outcome returns the name of the outcome.
func (c Call) outcome() string { return observe.OutcomeName(c.Outcome) }
