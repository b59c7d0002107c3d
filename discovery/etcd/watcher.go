package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/backoff"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/etcdclient"
	"github.com/onecall-dev/onecall/internal/lograte"
	"github.com/onecall-dev/onecall/internal/quote"
)

// watchBackoff spaces out listings of an etcd that fails. The first listing
// may take listFirst, each later one twice as long, listLongest at most;
// connecting to a user's etcd before may take connectLimit.
var watchBackoff = backoff.Policy{Base: 100 * time.Millisecond, Max: 2 * time.Second}

const (
	listFirst   = time.Second
	listLongest = 5 * time.Second

	connectLimit = 4 * time.Second
)

// repairEvery is how often what is known of all APIs is compared with etcd, give
// or take a quarter: a member that lags may have withheld events.
const repairEvery = time.Minute

// watcher follows every API that anybody asks for, in one goroutine and over
// one stream of etcd's watch service, with one watch an API: it lists, watches
// from the next revision on, and lists again whenever a watch ends. An API
// that is added costs no goroutine but while it is listed.
type watcher struct {
	conn     *etcdclient.Connection
	keys     keyspace
	log      *slog.Logger
	describe string
	several  bool // members to ask
	repair   time.Duration
	// listWithin is how long a listing may take after some that failed.
	listWithin func(failures int) time.Duration
	limits     limits
	// skipped counts values that could not be used.
	skipped atomic.Uint64
	limiter lograte.Limiter

	// mu guards the fields up to done. It is taken before a watch's lock.
	mu      sync.Mutex
	watches map[string]*watch
	// joined and left are what the goroutine has not heard of yet; kick wakes
	// it, and is nil before there is one.
	joined, left []*watch
	kick         chan struct{}
	closed       bool
	// fault is what keeps the registry from being read, nil when nothing does.
	fault *discovery.UnreachableError
	done  sync.WaitGroup

	// The fields below belong to the goroutine.
	followed map[*watch]struct{}
	stream   *watchStream // nil when there is none
}

func newWatcher(conn *etcdclient.Connection, keys keyspace, config Config) *watcher {
	return &watcher{
		conn:       conn,
		keys:       keys,
		log:        config.Logger,
		describe:   config.client().Describe(),
		several:    len(config.Endpoints) > 1,
		repair:     repairEvery,
		listWithin: func(failures int) time.Duration { return min(listFirst<<min(failures, 8), listLongest) },
		limits:     defaultLimits,
		watches:    make(map[string]*watch),
		followed:   make(map[*watch]struct{}),
	}
}

// join adds an observer to the API's watch, which begins with its first. It
// gives nil when the registry is closed.
func (r *watcher) join(api string, o *observer) *watch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	w := r.watches[api]
	if w == nil {
		w = &watch{api: api, observers: make(map[*observer]struct{})}
		if r.fault != nil { // why wait to be told the same
			w.latest = &discovery.Snapshot{API: api, Unreachable: r.fault}
		}
		r.watches[api] = w
		r.joined = append(r.joined, w)
		r.wake()
	}
	w.mu.Lock()
	w.observers[o] = struct{}{}
	if w.latest != nil {
		o.Add(*w.latest)
	}
	w.mu.Unlock()
	return w
}

// leave takes an observer away; the watch ends with its last.
func (r *watcher) leave(w *watch, o *observer) {
	defer o.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.observers, o)
	if len(w.observers) == 0 && r.watches[w.api] == w {
		delete(r.watches, w.api)
		r.left = append(r.left, w)
		r.wake()
	}
}

// wake wakes the goroutine, or starts it; r.mu is held.
func (r *watcher) wake() {
	if r.kick == nil {
		r.kick = make(chan struct{}, 1)
		r.done.Go(r.run)
	}
	select {
	case r.kick <- struct{}{}:
	default: // it is awake
	}
}

// close lets nobody join any more and waits for the goroutine, which ends with
// the connection's life.
func (r *watcher) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.done.Wait()
}

// run is the goroutine.
func (r *watcher) run() {
	life := r.conn.Life()
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer func() { r.drop() }()
	for {
		var arrived chan struct{}
		if r.stream != nil {
			arrived = r.stream.arrived
		}
		select {
		case <-life.Done():
			return
		case <-arrived:
			if !r.receiveAll() {
				continue
			}
		case <-r.kick:
			r.welcome()
		case <-timer.C:
		}
		timer.Reset(time.Until(r.work(life)))
	}
}

// welcome takes in who joined and lets go who left.
func (r *watcher) welcome() {
	r.mu.Lock()
	joined, left := r.joined, r.left
	r.joined, r.left = nil, nil
	r.mu.Unlock()
	for _, w := range joined {
		r.followed[w] = struct{}{}
	}
	for _, w := range left {
		delete(r.followed, w)
		r.unwatch(w)
	}
	if len(r.followed) == 0 {
		r.drop()
	}
	for w := range r.followed {
		if w.id == 0 { // it will be found out by listing it
			return
		}
	}
	r.mu.Lock()
	r.fault = nil // nobody will find out that it has ended
	r.mu.Unlock()
}

// work does what is due and says when more will be.
func (r *watcher) work(life context.Context) (next time.Time) {
	now := time.Now()
	next = now.Add(time.Hour)
	var unlisted, compare []*watch
	for w := range r.followed {
		switch {
		case w.due.After(now):
		case w.id != 0:
			compare = append(compare, w)
		default:
			unlisted = append(unlisted, w)
		}
	}
	if r.listAll(life, unlisted) {
		r.compare(life, compare)
	}
	for w := range r.followed {
		if w.due.Before(next) {
			next = w.due
		}
	}
	return next
}

// listedAtOnce is how many APIs are listed at the same time.
const listedAtOnce = 16

// listAll lists APIs, some at a time, and begins to watch each. It reports whether
// etcd answered: when it does not, the APIs that it was not yet asked for fail for
// the same reason.
func (r *watcher) listAll(life context.Context, all []*watch) (reached bool) {
	if len(all) == 0 {
		return true
	}
	failed := r.connect(life)
	lists := make(chan list, len(all))
	for waiting, under := all, 0; len(waiting)+under > 0; {
		if life.Err() != nil && under == 0 {
			return false
		}
		switch {
		case len(waiting) > 0 && failed != nil:
			r.failed(waiting[0], failed)
			waiting = waiting[1:]
		case len(waiting) > 0 && under < listedAtOnce && life.Err() == nil:
			w := waiting[0]
			go func(known bool, limit time.Duration) { lists <- r.list(life, w, known, limit) }(w.known, r.listWithin(w.failures))
			waiting = waiting[1:]
			under++
		default:
			listed := <-lists
			under--
			if err := r.listed(life, listed); err != nil {
				r.failed(listed.watch, err)
				if !answered(err) {
					failed = err
				}
			}
		}
	}
	return failed == nil
}

// listed takes in a listing of an API, and watches the API from there on.
func (r *watcher) listed(life context.Context, l list) error {
	if l.err != nil {
		return l.err
	}
	w := l.watch
	ctx, cancel := context.WithTimeout(life, listLongest)
	defer cancel()
	if err := r.watch(ctx, life, l.client, w, l.revision+1); err != nil {
		return err
	}
	denied := w.fault != nil && answered(w.fault)
	w.take(l, r.skip)
	w.due = time.Now().Add(r.untilRepair())
	r.works()
	if denied {
		r.log.Info("an API can be read from etcd again", "api", w.api)
	}
	return nil
}

// answered tells whether an error is etcd's word on one API, and not a fault of
// the way to it.
func answered(err error) bool {
	_, tooMany := errors.AsType[tooManyKeysError](err)
	return tooMany || errors.Is(err, rpctypes.ErrPermissionDenied)
}

// failed has an API listed again later, and tells why it can't be now.
func (r *watcher) failed(w *watch, err error) {
	if r.conn.Life().Err() != nil {
		return
	}
	w.failures++
	if w.failures == 1 && r.several && !answered(err) {
		w.due = time.Now() // it may be one member's; the next request goes to another
		return
	}
	w.due = time.Now().Add(watchBackoff.Delay(w.failures))
	r.mu.Lock()
	fault := &discovery.UnreachableError{Registry: r.describe, Since: time.Now(), Cause: err}
	if w.fault != nil {
		fault.Since = w.fault.Since
	} else if r.fault != nil {
		fault.Since = r.fault.Since
	}
	began := false
	if !answered(err) {
		began = r.fault == nil
		r.fault = fault
	}
	r.mu.Unlock()
	if began || answered(err) && w.fault == nil {
		r.log.Warn("cannot read from etcd; the last known instances stay in use", "api", w.api, "etcd", r.describe, "error", err)
	}
	w.unreachable(fault)
}

// list reads all that is known of an API, within limit. known is whether anything
// was known of it before.
func (r *watcher) list(life context.Context, w *watch, known bool, limit time.Duration) list {
	ctx, cancel := context.WithTimeout(life, limit)
	defer cancel()
	client, err := r.conn.Ready(ctx)
	if err != nil {
		return list{watch: w, err: err}
	}
	listed, err := r.read(ctx, client, w.api, known)
	listed.watch, listed.client, listed.err = w, client, err
	return listed
}

// works notes that etcd can be read from.
func (r *watcher) works() {
	r.mu.Lock()
	before := r.fault
	r.fault = nil
	r.mu.Unlock()
	if before != nil {
		r.log.Info("reading from etcd works again", "after", since(before.Since))
	}
}

// connect makes sure of a client. A busy etcd may take longer over a password
// than over a listing, and a wrong one is a better reason than no answer.
func (r *watcher) connect(life context.Context) error {
	ctx, cancel := context.WithTimeout(life, connectLimit)
	defer cancel()
	_, err := r.conn.Get(ctx)
	return err
}

// limits bound what is read: whoever may register instances of an API can put
// there what they like.
type limits struct {
	// keys is how many keys of an API are read.
	keys int64
	// kept is how many bytes of a watch are kept while the watcher does other work.
	kept int
}

var defaultLimits = limits{keys: 50_000, kept: 64 << 20}

const (
	// keysPerPage is how many keys are asked for at once, and fewer when they are
	// large.
	keysPerPage = 1_000
	// maxNames is how many names of APIs are read, to suggest some.
	maxNames = 10_000
)

// tooManyKeysError says how many keys an API has at most.
type tooManyKeysError int64

// Error implements error.
func (e tooManyKeysError) Error() string {
	return fmt.Sprintf("the API has more than %d keys in etcd: remove those that are no instances", int64(e))
}

// read asks etcd for all that it knows of an API.
func (r *watcher) read(ctx context.Context, client *clientv3.Client, api string, known bool) (list, error) {
	var listed list
	prefix := r.keys.instances(api)
	end := clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix))
	for from, page := prefix, int64(keysPerPage); ; {
		reply, err := client.Txn(ctx).Then(
			clientv3.OpGet(from, end, clientv3.WithLimit(page), clientv3.WithRev(listed.revision)),
			clientv3.OpGet(r.keys.known(api)),
		).Commit()
		if status.Code(err) == codes.ResourceExhausted && page > 1 { // more bytes than one answer may have
			page = max(1, page/8)
			continue
		}
		if err != nil {
			return list{}, fmt.Errorf("listing: %w", err)
		}
		found := reply.Responses[0].GetResponseRange()
		if listed.revision == 0 {
			listed.revision = reply.Header.GetRevision()
			if found.GetCount() > r.limits.keys {
				return list{}, tooManyKeysError(r.limits.keys)
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
	err := r.readNames(ctx, client, &listed)
	return listed, err
}

// readNames asks etcd for the names of the APIs that it knows. What is no name is
// passed over.
func (r *watcher) readNames(ctx context.Context, client *clientv3.Client, listed *list) error {
	known, err := client.Get(ctx, r.keys.allKnown(), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithLimit(maxNames))
	switch {
	case errors.Is(err, rpctypes.ErrPermissionDenied), status.Code(err) == codes.ResourceExhausted: // then there are no names to suggest
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

// untilRepair draws the time to the next comparison.
func (r *watcher) untilRepair() time.Duration {
	return r.repair*3/4 + backoff.Policy{Base: r.repair / 2, Max: r.repair / 2}.Delay(1)
}

// comparedAtOnce bounds how many APIs one request compares; etcd allows 128.
const comparedAtOnce = 64

// compare asks etcd how many keys each API has and which of them changed since
// what is known; an API of which that is not as known is listed again.
func (r *watcher) compare(life context.Context, all []*watch) {
	for len(all) > 0 {
		some := all[:min(len(all), comparedAtOnce)]
		all = all[len(some):]
		if err := r.compareSome(life, some); err != nil {
			for _, w := range some {
				r.unwatch(w)
				w.due = time.Now()
			}
		}
	}
}

func (r *watcher) compareSome(life context.Context, some []*watch) error {
	ctx, cancel := context.WithTimeout(life, listLongest)
	defer cancel()
	client, err := r.conn.Ready(ctx)
	if err != nil {
		return err
	}
	gets := make([]clientv3.Op, len(some))
	for i, w := range some {
		gets[i] = clientv3.OpGet(r.keys.instances(w.api), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithMinModRev(w.revision+1))
	}
	reply, err := client.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return fmt.Errorf("comparing: %w", err)
	}
	r.works()
	for i, w := range some {
		found := reply.Responses[i].GetResponseRange()
		w.due = time.Now().Add(r.untilRepair())
		// Other names may be nearer to one that nobody serves; a revision that
		// went back is that of a store from a backup.
		if !w.known || len(found.GetKvs()) > 0 || found.GetCount() != w.entries.count() || reply.Header.GetRevision() < w.revision {
			r.unwatch(w)
			w.due = time.Now()
		}
	}
	return nil
}

// maxLogged is the most that a log line shows of a key or of what is wrong with its
// value.
const maxLogged = 300

// skip counts an entry that can't be used, and logs it once a minute.
func (r *watcher) skip(key string, err error) {
	r.skipped.Add(1)
	key = quote.Line(key, maxLogged)
	if r.limiter.Allow(key, 1) {
		r.log.Warn("an entry in etcd can't be used and is skipped", "key", key, "error", quote.Line(err.Error(), maxLogged))
	}
}

// watch begins an API's watch on the stream, which it opens if there is none.
func (r *watcher) watch(ctx, life context.Context, client *clientv3.Client, w *watch, revision int64) error {
	if r.stream == nil {
		stream, err := openWatchStream(ctx, life, client, r.limits.kept)
		if err != nil {
			return fmt.Errorf("watching: %w", err)
		}
		r.stream = stream
	}
	r.unwatch(w)
	r.stream.create(w, r.keys.instances(w.api), revision)
	return nil
}

// unwatch ends an API's watch, if it has one.
func (r *watcher) unwatch(w *watch) {
	if w.id != 0 && r.stream != nil {
		r.stream.cancel(w)
	}
	w.id = 0
}

// drop ends the stream, if there is one.
func (r *watcher) drop() {
	if r.stream != nil {
		r.stream.close()
		r.stream = nil
	}
}

// receiveAll takes in all that came over the stream and tells whether something is
// due for it.
func (r *watcher) receiveAll() (due bool) {
	stream := r.stream
	for _, reply := range stream.take() {
		if r.stream != stream {
			break // it has ended, and all is listed again
		}
		due = r.receive(reply) || due
	}
	return due
}

// receive takes in what came over the stream and tells whether something is due
// for it. When the stream has ended all its APIs are listed again, after one
// pause.
func (r *watcher) receive(reply watchReply) (due bool) {
	if reply.err != nil {
		r.restart(reply.err)
		return true
	}
	w := r.stream.find(reply.response)
	if w == nil { // ended meanwhile
		return false
	}
	if !reply.response.GetCanceled() {
		w.apply(reply.response.GetEvents(), !reply.response.GetFragment(), r.skip)
		if w.entries.count() > r.limits.keys { // listing it says so
			r.unwatch(w)
			w.due = time.Now()
			return true
		}
		return false
	}
	reason := reply.response.GetCancelReason()
	if reply.response.GetCompactRevision() == 0 && reason != rpctypes.ErrGRPCPermissionDenied.Error() {
		r.restart(errors.New(reason)) // such as a token that expired, which is the stream's
		return true
	}
	r.log.Debug("watch ended; listing again", "api", w.api, "reason", reason, "compacted", reply.response.GetCompactRevision())
	w.id = 0
	w.failures++
	w.due = time.Now().Add(watchBackoff.Delay(w.failures))
	return true
}

// restart drops the stream and has all its APIs listed again.
func (r *watcher) restart(reason error) {
	r.drop()
	r.log.Debug("watching ended; listing again", "reason", reason)
	due := time.Now().Add(watchBackoff.Delay(1))
	for w := range r.followed {
		if w.id != 0 {
			w.id, w.due = 0, due
		}
	}
}
