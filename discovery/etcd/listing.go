package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/internal/backoff"
	"github.com/onecall-dev/onecall/internal/contract"
)

// watchBackoff spaces out listings while etcd fails. The first listing may take
// listFirst, and each later one twice as long, up to listLongest. The connection
// before it, with authentication, may take connectLimit.
var watchBackoff = backoff.Policy{Base: 100 * time.Millisecond, Max: 2 * time.Second}

const (
	listFirst   = time.Second
	listLongest = 5 * time.Second

	connectLimit = 4 * time.Second
)

// listedAtOnce is how many APIs are listed at the same time.
const listedAtOnce = 16

// listAll lists APIs, some at a time, and starts to watch each. It reports whether
// etcd answered. If it did not, the remaining APIs fail with the same error.
func (r *watcher) listAll(life context.Context, all []*watch) (reached bool) {
	if len(all) == 0 {
		return true
	}
	failed := r.connect(life)
	lists := make(chan listing, len(all))
	for waiting, under := all, 0; len(waiting)+under > 0; {
		if life.Err() != nil && under == 0 {
			return false
		}
		switch {
		case len(waiting) > 0 && failed != nil:
			r.scheduleRetry(waiting[0], failed)
			waiting = waiting[1:]
		case len(waiting) > 0 && under < listedAtOnce && life.Err() == nil:
			w := waiting[0]
			go func(known bool, limit time.Duration, members int) {
				lists <- r.list(life, w, known, limit, members)
			}(w.known, r.listWithin(w.failures), r.members(w.failures))
			waiting = waiting[1:]
			under++
		default:
			listed := <-lists
			under--
			if err := r.listed(life, listed); err != nil {
				r.scheduleRetry(listed.watch, err)
				if !answered(err) {
					failed = err
				}
			}
		}
	}
	return failed == nil
}

// listed applies the listing of an API, and watches the API from the next revision on.
func (r *watcher) listed(life context.Context, l listing) error {
	if l.err != nil {
		return l.err
	}
	w := l.watch
	ctx, cancel := context.WithTimeout(life, listLongest)
	defer cancel()
	if err := r.watch(ctx, life, l.client, w, l.revision+1); err != nil {
		return err
	}
	denied := w.err != nil && answered(w.err)
	w.applyListing(l, r.skip)
	w.due = time.Now().Add(r.untilRepair())
	r.setHealthy()
	if denied {
		r.log.Info("an API can be read from etcd again", "api", w.api)
	}
	return nil
}

// members returns from how many members a listing requests the same at the same time. A
// listing that failed asks all: etcd's client chooses the member of a request, and may
// choose the one again that does not answer.
func (r *watcher) members(failures int) int {
	if failures == 0 {
		return 1
	}
	return r.endpoints
}

// list reads the keys of an API, within limit. known says that the API was known before,
// so that no other names have to be read. Each request goes to some members.
func (r *watcher) list(life context.Context, w *watch, known bool, limit time.Duration, members int) listing {
	ctx, cancel := context.WithTimeout(life, limit)
	defer cancel()
	client, err := r.conn.Ready(ctx)
	if err != nil {
		return listing{watch: w, err: err}
	}
	listed, err := r.read(ctx, client, w.api, known, members)
	listed.watch, listed.client, listed.err = w, client, err
	return listed
}

// firstOf makes the same request n times at once, and returns the first answer of a
// member. If no member answers, it returns one of the errors.
func firstOf[T any](ctx context.Context, n int, request func(context.Context) (T, error)) (response T, err error) {
	type result struct {
		response T
		err      error
	}
	results := make(chan result, n)
	var running sync.WaitGroup
	defer running.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for range n {
		running.Go(func() {
			response, err := request(ctx)
			results <- result{response, err}
		})
	}
	for range n {
		received := <-results
		response, err = received.response, received.err
		if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded {
			break
		}
	}
	return response, err
}

// connect connects to etcd. It has a limit of its own, because a busy etcd may need
// longer to check a password than to list, and a wrong password is a better error than
// a timeout.
func (r *watcher) connect(life context.Context) error {
	ctx, cancel := context.WithTimeout(life, connectLimit)
	defer cancel()
	_, err := r.conn.Get(ctx)
	return err
}

// limits bound how much is read, because a program that may register instances of an API
// can write any keys and values there.
type limits struct {
	// keys is how many keys of an API are read.
	keys int64
	// streamed is how many bytes of the stream wait while the watcher does other work.
	streamed int
}

var defaultLimits = limits{keys: 50_000, streamed: 64 << 20}

const (
	// keysPerPage is how many keys are read at once, or fewer if they are large.
	keysPerPage = 1_000
	// maxNames is how many names of APIs are read, to suggest some.
	maxNames = 10_000
)

// tooManyKeysError says that an API has more keys than this.
type tooManyKeysError int64

// Error implements error.
func (e tooManyKeysError) Error() string {
	return fmt.Sprintf("the API has more than %d keys in etcd: remove those that are no instances", int64(e))
}

// read reads all keys of an API, page by page, at one revision.
func (r *watcher) read(ctx context.Context, client *clientv3.Client, api string, known bool, members int) (listing, error) {
	var listed listing
	prefix := r.keys.instances(api)
	end := clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix))
	for from, page := prefix, int64(keysPerPage); ; {
		reply, err := firstOf(ctx, members, func(ctx context.Context) (*clientv3.TxnResponse, error) {
			return client.Txn(ctx).Then(
				clientv3.OpGet(from, end, clientv3.WithLimit(page), clientv3.WithRev(listed.revision)),
				clientv3.OpGet(r.keys.known(api)),
			).Commit()
		})
		if status.Code(err) == codes.ResourceExhausted && page > 1 { // the answer would be too large
			page = max(1, page/8)
			continue
		}
		if err != nil {
			return listing{}, fmt.Errorf("listing: %w", err)
		}
		found := reply.Responses[0].GetResponseRange()
		if listed.revision == 0 {
			listed.revision = reply.Header.GetRevision()
			if found.GetCount() > r.limits.keys {
				return listing{}, tooManyKeysError(r.limits.keys)
			}
		}
		for _, kv := range found.GetKvs() {
			listed.add(api, kv)
		}
		if marks := reply.Responses[1].GetResponseRange().GetKvs(); len(marks) > 0 {
			listed.mark = marks[0]
		}
		if !found.GetMore() {
			break
		}
		from = string(found.GetKvs()[len(found.GetKvs())-1].GetKey()) + "\x00"
	}
	if known || listed.mark != nil || len(listed.entries) > 0 {
		return listed, nil
	}
	err := r.readNames(ctx, client, &listed, members)
	return listed, err
}

// readNames reads the names of the known APIs. It skips keys that are no names.
func (r *watcher) readNames(ctx context.Context, client *clientv3.Client, listed *listing, members int) error {
	known, err := firstOf(ctx, members, func(ctx context.Context) (*clientv3.GetResponse, error) {
		return client.Get(ctx, r.keys.allKnown(), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(maxNames))
	})
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied), status.Code(err) == codes.ResourceExhausted: // no names to suggest
		return nil
	case err != nil:
		return fmt.Errorf("listing the known APIs: %w", err)
	}
	for _, kv := range known.Kvs {
		if name := r.keys.knownAPI(string(kv.GetKey())); contract.CheckName(name) == nil {
			listed.names = append(listed.names, name)
		}
	}
	return nil
}
