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

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/etcdclient"
	"github.com/onecall-dev/onecall/internal/lograte"
	"github.com/onecall-dev/onecall/internal/quote"
)

// watcher watches the APIs that have observers, in one goroutine and over one stream
// of etcd's watch service, with one watch for each API. It lists an API, watches it
// from the next revision on, and lists it again whenever the watch ends. An API costs
// no goroutine, except while it is listed.
type watcher struct {
	conn     *etcdclient.Connection
	keys     keyspace
	log      *slog.Logger
	describe string
	// endpoints is how many endpoints there are.
	endpoints int
	repair    time.Duration
	// listWithin returns how long a listing may take after some that failed.
	listWithin func(failures int) time.Duration
	limits     limits
	// skipped counts values that could not be used.
	skipped atomic.Uint64
	limiter lograte.Limiter

	// mu guards the fields up to done. A watch's lock may be acquired while it is
	// held, and not the other way round.
	mu      sync.Mutex
	watches map[string]*watch // by API
	// joined and left are the watches that the goroutine has not seen yet. wakeup
	// wakes it, and is nil before there is one.
	joined, left []*watch
	wakeup       chan struct{}
	closed       bool
	// err is why etcd cannot be read, nil if it can.
	err  *discovery.UnreachableError
	done sync.WaitGroup

	// The fields below belong to the goroutine.
	watched map[*watch]struct{}
	stream  *watchStream // nil if there is none
}

func newWatcher(conn *etcdclient.Connection, keys keyspace, config Config) *watcher {
	return &watcher{
		conn:       conn,
		keys:       keys,
		log:        config.Logger,
		describe:   config.client().Describe(),
		endpoints:  len(config.Endpoints),
		repair:     repairEvery,
		listWithin: func(failures int) time.Duration { return min(listFirst<<min(failures, 8), listLongest) },
		limits:     defaultLimits,
		watches:    make(map[string]*watch),
		watched:    make(map[*watch]struct{}),
	}
}

// join adds an observer to the API's watch. The first observer starts the watch. It
// returns nil if the registry is closed.
func (r *watcher) join(api string, o *observer) *watch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	w := r.watches[api]
	if w == nil {
		w = &watch{api: api, observers: make(map[*observer]struct{})}
		if r.err != nil { // the listing would end with the same error
			w.latest = unreachableView(api, r.err)
		}
		r.watches[api] = w
		r.joined = append(r.joined, w)
		r.wake()
	}
	w.mu.Lock()
	w.observers[o] = struct{}{}
	if w.latest != nil {
		o.Add(w.latest)
	}
	w.mu.Unlock()
	return w
}

// leave removes an observer. The watch ends with its last observer.
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

// wake wakes the goroutine, or starts it. r.mu must be held.
func (r *watcher) wake() {
	if r.wakeup == nil {
		r.wakeup = make(chan struct{}, 1)
		r.done.Go(r.run)
	}
	select {
	case r.wakeup <- struct{}{}:
	default: // it is awake
	}
}

// close makes join return nil, and waits for the goroutine, which ends with the
// connection's life.
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
	defer func() { r.closeStream() }()
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
		case <-r.wakeup:
			r.applyJoins()
		case <-timer.C:
		}
		timer.Reset(time.Until(r.runDue(life)))
	}
}

// applyJoins starts the watches that joined, and ends those that left.
func (r *watcher) applyJoins() {
	r.mu.Lock()
	joined, left := r.joined, r.left
	r.joined, r.left = nil, nil
	r.mu.Unlock()
	for _, w := range joined {
		r.watched[w] = struct{}{}
	}
	for _, w := range left {
		delete(r.watched, w)
		r.unwatch(w)
	}
	if len(r.watched) == 0 {
		r.closeStream()
	}
	for w := range r.watched {
		if w.id == 0 { // listing it sets or clears the error
			return
		}
	}
	r.mu.Lock()
	r.err = nil // nothing else runs that would clear it
	r.mu.Unlock()
}

// runDue lists and compares the APIs for which that is due, and returns when to run
// again.
func (r *watcher) runDue(life context.Context) (next time.Time) {
	now := time.Now()
	next = now.Add(time.Hour)
	var unlisted, compare []*watch
	for w := range r.watched {
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
	for w := range r.watched {
		if w.due.Before(next) {
			next = w.due
		}
	}
	return next
}

// answered reports whether etcd answered, with an error for one API.
func answered(err error) bool {
	_, tooMany := errors.AsType[tooManyKeysError](err)
	return tooMany || errors.Is(err, rpctypes.ErrPermissionDenied)
}

// scheduleRetry schedules another listing of an API after one failed, and notifies the
// observers of the error.
func (r *watcher) scheduleRetry(w *watch, err error) {
	if r.conn.Life().Err() != nil {
		return
	}
	w.failures++
	if w.failures == 1 && r.endpoints > 1 && !answered(err) {
		w.due = time.Now() // one member may have failed: the next listing asks all
		return
	}
	w.due = time.Now().Add(watchBackoff.Delay(w.failures))
	r.mu.Lock()
	unreachable := &discovery.UnreachableError{Registry: r.describe, Since: time.Now(), Cause: err}
	if w.err != nil {
		unreachable.Since = w.err.Since
	} else if r.err != nil {
		unreachable.Since = r.err.Since
	}
	began := false
	if !answered(err) {
		began = r.err == nil
		r.err = unreachable
	}
	r.mu.Unlock()
	if began || answered(err) && w.err == nil {
		r.log.Warn("cannot read from etcd; the last known instances stay in use", "api", w.api, "etcd", r.describe, "error", err)
	}
	w.unreachable(unreachable)
}

// setHealthy records that etcd can be read.
func (r *watcher) setHealthy() {
	r.mu.Lock()
	before := r.err
	r.err = nil
	r.mu.Unlock()
	if before != nil {
		r.log.Info("reading from etcd works again", "after", since(before.Since))
	}
}

// maxLogged is how many bytes a log line shows of a key, and of the error of its value.
const maxLogged = 300

// skip counts an entry that cannot be used, and logs it once a minute.
func (r *watcher) skip(key string, err error) {
	r.skipped.Add(1)
	key = quote.Line(key, maxLogged)
	if r.limiter.Allow(key, 1) {
		r.log.Warn("an entry in etcd can't be used and is skipped", "key", key, "error", quote.Line(err.Error(), maxLogged))
	}
}

// watch starts an API's watch on the stream, and opens the stream if there is none.
func (r *watcher) watch(ctx, life context.Context, client *clientv3.Client, w *watch, revision int64) error {
	if r.stream == nil {
		stream, err := openWatchStream(ctx, life, client, r.limits.streamed)
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

// closeStream ends the stream, if there is one.
func (r *watcher) closeStream() {
	if r.stream != nil {
		r.stream.close()
		r.stream = nil
	}
}

// receiveAll applies all that came over the stream, and reports whether runDue has
// something to do because of it.
func (r *watcher) receiveAll() (due bool) {
	stream := r.stream
	for _, reply := range stream.take() {
		if r.stream != stream {
			break // the stream has ended, and all APIs are listed again
		}
		due = r.receive(reply) || due
	}
	return due
}

// receive applies one reply of the stream, and reports whether runDue has something to
// do because of it. After the end of the stream all its APIs are listed again, after
// one pause.
func (r *watcher) receive(reply watchReply) (due bool) {
	if reply.err != nil {
		r.restart(reply.err)
		return true
	}
	w := r.stream.find(reply.response)
	if w == nil { // its watch has ended meanwhile
		return false
	}
	if !reply.response.GetCanceled() {
		w.apply(reply.response.GetEvents(), !reply.response.GetFragment(), r.skip)
		if int64(w.entries.Len()) > r.limits.keys { // the listing returns the error
			r.unwatch(w)
			w.due = time.Now()
			return true
		}
		return false
	}
	reason := reply.response.GetCancelReason()
	if reply.response.GetCompactRevision() == 0 && reason != rpctypes.ErrGRPCPermissionDenied.Error() {
		r.restart(errors.New(reason)) // it concerns the whole stream, such as a token that expired
		return true
	}
	r.log.Debug("watch ended; listing again", "api", w.api, "reason", reason, "compacted", reply.response.GetCompactRevision())
	w.id = 0
	w.failures++
	w.due = time.Now().Add(watchBackoff.Delay(w.failures))
	return true
}

// restart closes the stream and schedules a listing of all its APIs.
func (r *watcher) restart(reason error) {
	r.closeStream()
	r.log.Debug("watching ended; listing again", "reason", reason)
	due := time.Now().Add(watchBackoff.Delay(1))
	for w := range r.watched {
		if w.id != 0 {
			w.id, w.due = 0, due
		}
	}
}
