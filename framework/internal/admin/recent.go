package admin

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/framework/internal/ended"
	"github.com/onecall-dev/onecall/framework/observe"
)

const (
	// kept is how many slow or failed calls are kept.
	kept = 100
	// slow is the duration from which a unary call is slow.
	slow = 500 * time.Millisecond
)

// recent keeps the last calls that were slow or failed.
type recent struct {
	mu   sync.Mutex // guards the fields below
	all  [kept]Recent
	next int // the index of the next one
}

var _ ended.Watcher = (*recent)(nil)

// Wants implements [ended.Watcher].
func (*recent) Wants(_ context.Context, code codes.Code, took time.Duration) bool {
	return code != codes.OK || took >= slow
}

// Add implements [ended.Watcher].
func (r *recent) Add(_ context.Context, call ended.Call) {
	if call.Stream && call.Code == codes.OK {
		return // streams are long by nature
	}
	added := Recent{
		At: call.At, Side: calls, RPC: call.RPC, Code: observe.StatusName(call.Code), Outcome: observe.OutcomeName(call.Outcome), Took: call.Took,
		Attempts: call.Attempts, Address: call.Address, Call: call.ID, Err: call.Err,
	}
	if call.Served {
		added.Side = serves
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[r.next] = added
	r.next = (r.next + 1) % kept
}

// list returns the calls, the last one first.
func (r *recent) list() []Recent {
	r.mu.Lock()
	defer r.mu.Unlock()
	listed := make([]Recent, 0, kept)
	for i := range r.all {
		if call := r.all[(r.next+i)%kept]; !call.At.IsZero() {
			listed = append(listed, call)
		}
	}
	slices.Reverse(listed)
	return listed
}
