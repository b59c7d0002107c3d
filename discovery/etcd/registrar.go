package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/internal/backoff"
	"github.com/onecall-dev/onecall/internal/etcdclient"
	"github.com/onecall-dev/onecall/internal/lograte"
)

// registrarBackoff spaces out attempts on an etcd that fails.
var registrarBackoff = backoff.Policy{Base: 100 * time.Millisecond, Max: time.Second}

// registrar does all writes of a registry. One goroutine writes the desired entries of
// all registrations to etcd, under one lease. It tries until the registry closes.
type registrar struct {
	conn    *etcdclient.Connection
	keeper  leaseKeeper
	auditor auditor
	keys    keyspace
	ttl     time.Duration
	log     *slog.Logger
	// describe names the etcd, in log lines.
	describe string
	limiter  lograte.Limiter

	// mu guards the fields below, and those of the registrations. No other lock is
	// acquired while it is held.
	mu            sync.Mutex
	registrations map[*registration]struct{}
	// version counts the changes of the desired entries.
	version uint64
	// wake wakes the goroutine; nil before there is one.
	wake  chan struct{}
	state writeState

	done sync.WaitGroup
}

func newRegistrar(conn *etcdclient.Connection, keys keyspace, config Config) *registrar {
	r := &registrar{
		conn:          conn,
		keys:          keys,
		ttl:           config.TTL,
		log:           config.Logger,
		describe:      config.client().Describe(),
		registrations: make(map[*registration]struct{}),
		state:         writeState{progress: make(chan struct{}), changed: make(chan struct{})},
	}
	r.keeper = leaseKeeper{conn: conn, ttl: config.TTL, warn: r.warn}
	r.auditor = auditor{conn: conn, ttl: config.TTL, log: config.Logger, warn: r.warn}
	return r
}

// warn logs a line, at most so many times a minute.
func (r *registrar) warn(text string, most int, attrs ...any) {
	if r.limiter.Allow(text+fmt.Sprint(attrs...), most) {
		r.log.Warn(text, attrs...)
	}
}

// wait returns when the goroutine has ended. The registry's life must have ended.
func (r *registrar) wait() {
	r.mu.Lock() // a change that starts the goroutine has done so, or sees that life has ended
	started := r.wake != nil
	r.mu.Unlock()
	if started {
		r.done.Wait()
	}
}

// change edits the desired entries, wakes the goroutine, and returns the version to wait
// for.
func (r *registrar) change(edit func()) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	edit()
	r.version++
	if r.wake == nil && r.conn.Life().Err() == nil {
		r.wake = make(chan struct{}, 1)
		r.done.Go(r.run)
	}
	select {
	case r.wake <- struct{}{}:
	default: // nil after the end, or the goroutine is awake
	}
	return r.version
}

// run is the goroutine.
func (r *registrar) run() {
	life := r.conn.Life()
	defer r.auditor.stop()
	defer r.keeper.stop()
	for failures := 0; life.Err() == nil; {
		next, err := r.step(life, failures)
		if err != nil {
			failures++
			next = time.Now().Add(registrarBackoff.Delay(failures))
		} else {
			failures = 0
		}
		r.update(func() []line { return r.setError(err) })
		r.sleep(life, next, err == nil)
	}
}

// sleep waits until a time, until the watched key is deleted, or until life ends, and, if
// wakeable, until the goroutine is woken.
func (r *registrar) sleep(life context.Context, until time.Time, wakeable bool) {
	wake := r.wake
	if !wakeable {
		wake = nil
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-wake:
	case _, deleted := <-r.auditor.deleted:
		r.auditor.recheck(r.keeper.lease, deleted)
	case <-timer.C:
	case <-life.Done():
	}
}

// step does the work that is due, and returns when to do more.
func (r *registrar) step(life context.Context, failures int) (next time.Time, err error) {
	ctx, cancel := context.WithTimeout(life, r.attempt(failures))
	defer cancel()
	if version, empty := r.empty(); empty {
		return r.withdraw(ctx, version)
	}
	before := r.keeper.lease
	err = r.keeper.ensure(ctx, life)
	if err != nil || r.keeper.lease != before {
		r.auditor.stop()
	}
	if err != nil {
		return time.Time{}, err
	}
	lease := r.keeper.lease
	if lease != before { // the keys under the one before are gone
		r.update(func() []line { return r.updateStatus() })
	}
	desired, version := r.desired() // not before there is a lease: see registration.sent
	if len(desired) == 0 {          // the last registration was closed in the meantime
		return r.withdraw(ctx, version)
	}
	denied, wrote, err := lease.write(ctx, r.conn, desired)
	if err != nil {
		r.keeper.dropIfEnded(err)
		return time.Time{}, err
	}
	r.markWritten(version, denied, wrote && len(denied) == 0)
	if err := r.auditor.check(ctx, lease); err != nil {
		return time.Time{}, err
	}
	_ = r.keeper.open(ctx, life) // before it is needed: a member that shuts down accepts no new stream
	r.auditor.watchKey(ctx, life, lease)
	for _, err := range denied {
		return time.Time{}, err
	}
	return lease.due(), nil
}

// withdraw revokes the lease, since nothing is to be registered. To delete the keys would
// not do: a put whose answer was lost may be executed after that, and only the end of its
// lease makes etcd refuse it.
func (r *registrar) withdraw(ctx context.Context, version uint64) (next time.Time, err error) {
	r.auditor.stop()
	revoked, err := r.keeper.revoke(ctx)
	if err != nil {
		return time.Time{}, err
	}
	if !revoked {
		r.mu.Lock()
		r.state.err = nil // nothing else runs that would clear it
		r.mu.Unlock()
	}
	r.markWritten(version, nil, revoked)
	return time.Now().Add(time.Hour), nil
}

// longestAttempt and shortestAttempt bound how long one step may take.
const (
	longestAttempt  = 5 * time.Second
	shortestAttempt = 300 * time.Millisecond
)

// attempt returns how long one step may take. While there is a lease, the first
// attempts are so short that several members are asked before the lease ends, since
// one of them may be silent.
func (r *registrar) attempt(failures int) time.Duration {
	longest := min(r.ttl/3, longestAttempt)
	if r.keeper.lease == nil {
		return longest
	}
	return min(longest, max(shortestAttempt, r.ttl/9*time.Duration(1+failures/2)))
}

// empty reports whether nothing is to be registered, and in which version.
func (r *registrar) empty() (version uint64, empty bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for registration := range r.registrations {
		if len(registration.entries) > 0 {
			return r.version, false
		}
	}
	return r.version, true
}

// desired returns the desired entries by key, and marks their registrations as sent:
// the caller writes them to etcd next.
func (r *registrar) desired() (map[string]entry, uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	desired := make(map[string]entry)
	for registration := range r.registrations {
		registration.sent = true
		maps.Copy(desired, registration.entries)
	}
	return desired, r.version
}
