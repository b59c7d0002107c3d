package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// taken is a call whose key the server took in the ledger.
type taken struct {
	key, owner string
	at         time.Time
}

// take takes the key of a call in the ledger, which says whether it is fresh.
func (s *Server) take(ctx context.Context, call *serverCall, key string) (fresh bool, err error) {
	if s.ledger == nil {
		return s.config.Ledger.Begin(ctx, key)
	}
	owner, at := ownerOf(ctx, key, call.marked.method), time.Now()
	fresh, err = s.ledger.Take(ctx, key, atmostonce.LedgerEntry{Owner: owner})
	if fresh && err == nil {
		call.taken = &taken{key: key, owner: owner, at: at}
	}
	return fresh, err
}

// record has the ledger remember what became of a call whose key it has.
func (s *Server) record(call *serverCall, became fate, err error) {
	if call.taken == nil {
		return
	}
	entry := atmostonce.LedgerEntry{Owner: call.taken.owner}
	switch became {
	case fateRefused:
		entry.Outcome = atmostonce.Refused
	case fateOK:
		entry.Outcome = atmostonce.Executed
	case fateFailed:
		entry.Outcome, entry.Code = atmostonce.Executed, sentCode(err)
	case fateUnknown, fateRunning: // a handler may have started unseen
		return
	}
	s.recorder.record(*call.taken, entry)
}

// askLedger returns what the ledger knows of a call. If it has no key of the call,
// askLedger takes the key, so that no copy of the call runs at any instance.
func (s *Server) askLedger(ctx context.Context, q question) (settled, error) {
	key := atmostonce.LedgerKey(q.call)
	owner := ownerOf(ctx, key, q.method)
	entry, known, err := s.ledger.Find(ctx, key)
	if err == nil && !known {
		if q.age > s.ledger.Retention()/agePart {
			return settled{}, nil // the ledger may have forgotten it
		}
		entry = atmostonce.LedgerEntry{Owner: owner, Outcome: atmostonce.Refused}
		if known, err = s.ledger.Take(ctx, key, entry); err == nil && !known {
			entry, known, err = s.ledger.Find(ctx, key) // it was taken in between
		}
	}
	switch {
	case err != nil:
		return settled{}, errNoLedger
	case !known || entry.Owner != owner:
		return settled{}, nil
	case entry.Outcome == atmostonce.Refused:
		return settled{fate: fateRefused}, nil
	case entry.Outcome != atmostonce.Executed:
		return settled{fate: fateRunning}, nil
	case entry.Code == codes.OK:
		return settled{fate: fateOK}, nil
	default:
		return settled{fate: fateFailed, data: marshal(status.New(entry.Code, "").Proto(), s.sessions.keeping.all)}, nil
	}
}

// agePart is which part of the ledger's retention a call's age may be if the call is to
// be refused because the ledger does not have its key. The rest is for clocks that differ.
const agePart = 2

// errNoLedger is the answer while the ledger is unavailable. Its code is one after which
// a caller asks again.
var errNoLedger = status.Error(codes.Unavailable, "the instance cannot find out what became of the call: the ledger that the instances share is unavailable")

const (
	// recorders is how many ends of calls are written to the ledger at a time.
	recorders = 32
	// mostUnrecorded is how many ends wait for that. Further ones are dropped.
	mostUnrecorded = 4096
	// lastRecords is how long a server that closes writes what waits.
	lastRecords = 2 * time.Second
)

// recorder writes the ends of calls to the ledger, for which no reply waits.
type recorder struct {
	ledger  atmostonce.SettlingLedger
	waiting chan end
	running sync.WaitGroup
	ctx     context.Context //nolint:containedctx // of a running thing
	cancel  context.CancelFunc
	dropped atomic.Uint64

	mu     sync.RWMutex // guards the field below, and is held while an end is added
	closed bool
}

// end is the end of a call.
type end struct {
	of    taken
	entry atmostonce.LedgerEntry
}

// newRecorder returns a recorder. The caller must call close.
func newRecorder(ledger atmostonce.SettlingLedger) *recorder {
	r := &recorder{ledger: ledger, waiting: make(chan end, mostUnrecorded)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for range recorders {
		r.running.Go(r.run)
	}
	return r
}

// record has the end of a call written.
func (r *recorder) record(of taken, entry atmostonce.LedgerEntry) {
	if r == nil { // the server was made for tests
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.closed {
		select {
		case r.waiting <- end{of, entry}:
			return
		default:
		}
	}
	r.dropped.Add(1)
}

// run writes ends until there are no more.
func (r *recorder) run() {
	for end := range r.waiting {
		// After the retention the key could be that of a copy.
		if time.Since(end.of.at) >= r.ledger.Retention() || r.ledger.Done(r.ctx, end.of.key, end.entry) != nil {
			r.dropped.Add(1)
		}
	}
}

// close writes the ends that wait, for lastRecords at most. It does nothing if r is nil,
// or closed already.
func (r *recorder) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	closed := r.closed
	r.closed = true
	r.mu.Unlock()
	if !closed {
		close(r.waiting)
	}
	late := time.AfterFunc(lastRecords, r.cancel)
	r.running.Wait()
	late.Stop()
	r.cancel()
}
