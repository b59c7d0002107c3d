package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/backoff"
	"github.com/onecall-dev/onecall/internal/etcdclient"
	"github.com/onecall-dev/onecall/internal/lograte"
)

// registrarBackoff spaces out attempts on an etcd that fails.
var registrarBackoff = backoff.Policy{Base: 100 * time.Millisecond, Max: time.Second}

// registrar owns every write of a registry: one goroutine brings what stands
// in etcd to what the registrations desire, under one lease, and never gives
// up before the registry closes.
type registrar struct {
	conn  *etcdclient.Connection
	lease *lease
	keys  keyspace
	ttl   time.Duration
	log   *slog.Logger
	// describe says which etcd this is.
	describe string
	limiter  lograte.Limiter

	// mu guards the fields below.
	mu            sync.Mutex
	registrations map[*registration]struct{}
	// version counts changes of what is desired; written is the last that
	// stands in etcd, progress is closed and replaced when it grows.
	version, written uint64
	progress         chan struct{}
	// denied are the keys of that version that etcd lets nobody put here.
	denied map[string]error
	// fault is what keeps the registrar from writing, nil when nothing does, and
	// faultSince when that began.
	fault      error
	faultSince time.Time
	// expires is when what stands in etcd vanishes if nothing is heard any more;
	// zero when nothing stands there.
	expires time.Time
	// changed is closed and replaced when a registration's status changes.
	changed chan struct{}
	// kick wakes the goroutine; it is nil before there is one.
	kick chan struct{}

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
		progress:      make(chan struct{}),
		changed:       make(chan struct{}),
	}
	r.lease = &lease{ttl: config.TTL, log: config.Logger, warn: r.warn}
	return r
}

// warn logs a line of which there are most within a minute.
func (r *registrar) warn(text string, most int, attrs ...any) {
	if r.limiter.Allow(text+fmt.Sprint(attrs...), most) {
		r.log.Warn(text, attrs...)
	}
}

// wait returns when the goroutine has ended; the registry's life has.
func (r *registrar) wait() {
	r.mu.Lock() // whoever starts the goroutine has done so, or sees the end of life
	started := r.kick != nil
	r.mu.Unlock()
	if started {
		r.done.Wait()
	}
}

// change edits what is desired, wakes the goroutine, and gives the version to
// wait for.
func (r *registrar) change(edit func()) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	edit()
	r.version++
	if r.kick == nil && r.conn.Life().Err() == nil {
		r.kick = make(chan struct{}, 1)
		r.done.Go(r.run)
	}
	select {
	case r.kick <- struct{}{}:
	default: // nil after the end, or the goroutine is awake
	}
	return r.version
}

// await returns when a version stands in etcd, or why it does not.
func (r *registrar) await(ctx context.Context, version uint64) error {
	for {
		r.mu.Lock()
		written, progress, fault := r.written, r.progress, r.fault
		r.mu.Unlock()
		if written >= version {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), fault)
		case <-r.conn.Life().Done():
			return errors.Join(errClosed, fault)
		}
	}
}

// run is the goroutine.
func (r *registrar) run() {
	life := r.conn.Life()
	defer r.lease.stop()
	for failures := 0; life.Err() == nil; {
		next, err := r.step(life, failures)
		if err != nil {
			failures++
			r.report(err)
			next = time.Now().Add(registrarBackoff.Delay(failures))
		} else {
			failures = 0
			r.report(nil)
		}
		r.sleep(life, next, err == nil)
	}
}

// sleep returns at a time, at a kick if one may wake it, when somebody deletes
// what stands in etcd, or at the end of life.
func (r *registrar) sleep(life context.Context, until time.Time, wakeable bool) {
	kick := r.kick
	if !wakeable {
		kick = nil
	}
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case <-kick:
	case _, open := <-r.lease.deleted:
		r.lease.suspect(open)
	case <-timer.C:
	case <-life.Done():
	}
}

// step does what is due and says when more will be.
func (r *registrar) step(life context.Context, failures int) (next time.Time, err error) {
	ctx, cancel := context.WithTimeout(life, r.attempt(failures))
	defer cancel()
	if version, empty := r.empty(); empty {
		asked, err := r.lease.end(ctx, r.conn)
		if err != nil {
			return time.Time{}, err
		}
		if !asked {
			r.mu.Lock()
			r.fault = nil // nobody will find out that it has ended
			r.mu.Unlock()
		}
		r.wrote(version, nil, asked)
		return time.Now().Add(time.Hour), nil
	}
	before := r.lease.id
	if err := r.lease.keep(ctx, life, r.conn); err != nil {
		return time.Time{}, err
	}
	if r.lease.id != before { // what was registered under the one before is gone
		r.update(func() []line { return r.assess() })
	}
	desired, version := r.desired() // not before there is a lease: see registration.sent
	denied, wrote, err := r.lease.write(ctx, r.conn, desired)
	if err != nil {
		return time.Time{}, err
	}
	r.wrote(version, denied, wrote && len(denied) == 0)
	if err := r.lease.check(ctx, r.conn); err != nil {
		return time.Time{}, err
	}
	r.lease.guard(ctx, life, r.conn)
	for _, err := range denied {
		return time.Time{}, err
	}
	return r.lease.due(), nil
}

// longestAttempt and shortestAttempt bound how long one step may take.
const (
	longestAttempt  = 5 * time.Second
	shortestAttempt = 300 * time.Millisecond
)

// attempt is the most that one step may take. While there is a lease it is so
// short at first that several members are asked before the lease ends, since one
// of them may be silent.
func (r *registrar) attempt(failures int) time.Duration {
	longest := min(r.ttl/3, longestAttempt)
	if r.lease.id == 0 {
		return longest
	}
	return min(longest, max(shortestAttempt, r.ttl/9*time.Duration(1+failures/2)))
}

// entry is what should stand at a key.
type entry struct {
	value string
	// known is, for an instance, the key that says that its API was ever served.
	known string
}

// empty reports whether nothing is to be registered, and the version of which
// that is true.
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

// desired returns what is to be registered, by key, and marks it as sent: the
// caller writes it to etcd next.
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

// line is a line for the log. It is written once r.mu is no longer held: a log's
// handler may call the registry.
type line struct {
	level slog.Level
	text  string
	attrs []any
}

// update runs change under r.mu, and then logs what it returned. Only the
// registrar's goroutine calls it, so that lines are in order.
func (r *registrar) update(change func() []line) {
	r.mu.Lock()
	lines := change()
	r.mu.Unlock()
	for _, l := range lines {
		if r.limiter.Allow(l.text, linesAMinute) {
			r.log.Log(context.Background(), l.level, l.text, l.attrs...)
		}
	}
}

// linesAMinute is how many lines with the same text are logged within a minute: who
// may delete a key or revoke a lease may do so again and again.
const linesAMinute = 10

// wrote notifies those who wait that a version is in etcd, but for what etcd
// denied; works says that this shows that etcd can be written to.
func (r *registrar) wrote(version uint64, denied map[string]error, works bool) {
	r.update(func() []line {
		r.denied = denied
		if r.written != version {
			r.written = version
			close(r.progress)
			r.progress = make(chan struct{})
		}
		if works {
			return r.met(nil)
		}
		return r.assess()
	})
}

// report keeps what was met last.
func (r *registrar) report(err error) {
	r.update(func() []line { return r.met(err) })
}

// met keeps what was met last and returns a line for each change between good and
// bad; r.mu is held, by the goroutine.
func (r *registrar) met(err error) (lines []line) {
	before := r.fault
	r.fault = err
	switch {
	case err != nil && before == nil && r.conn.Life().Err() == nil:
		r.faultSince = time.Now()
		lines = append(lines, line{slog.LevelWarn, "cannot write to etcd; trying again until it works", []any{"etcd", r.describe, "error", err}})
		r.tell()
	case err == nil && before != nil:
		lines = append(lines, line{slog.LevelInfo, "writing to etcd works again", []any{"after", since(r.faultSince)}})
		r.tell()
	}
	return append(lines, r.assess()...)
}

// assess finds out which registrations are in etcd, as far as is known here, and
// returns a line for each that changed; r.mu is held, by the goroutine.
func (r *registrar) assess() (lines []line) {
	now, expired := time.Now(), r.expires
	r.expires = r.lease.expires
	alive := now.Before(r.expires)
	changed := false
	for registration := range r.registrations {
		up := alive && registration.born <= r.written && r.denial(registration) == nil && r.lease.holds(registration.entries)
		if up == registration.up {
			continue
		}
		before := registration.since
		registration.up, registration.since, changed = up, now, true
		if !up {
			if !expired.IsZero() && expired.Before(now) { // it ended then
				registration.since = expired
			}
			lines = append(lines, line{slog.LevelWarn, "no longer registered in etcd; registering again until it works", registration.attrs(because(cmp.Or(r.denial(registration), r.fault))...)})
			continue
		}
		if registration.again {
			lines = append(lines, line{slog.LevelInfo, "registered in etcd again", registration.attrs("lease", r.lease.String(), "after", since(before))})
		} else {
			lines = append(lines, line{slog.LevelInfo, "registered in etcd", registration.attrs("lease", r.lease.String())})
		}
		registration.again = true
	}
	if changed {
		r.tell()
	}
	return lines
}

// attrs returns what a log line says of a registration.
func (r *registration) attrs(more ...any) []any {
	return append([]any{"apis", r.apis(), "entries", len(r.entries)}, more...)
}

// because returns the attribute of an error, none when there is none.
func because(err error) []any {
	if err == nil {
		return nil
	}
	return []any{"error", err}
}

// since returns how long ago a time is, as a log shows it.
func since(then time.Time) time.Duration { return time.Since(then).Round(time.Millisecond) }

// denial gives why etcd does not take a registration, nil when it does; r.mu is
// held.
func (r *registrar) denial(registration *registration) error {
	for key := range registration.entries {
		if err := r.denied[key]; err != nil {
			return err
		}
	}
	return nil
}

// tell wakes who waits for a change of a status; r.mu is held.
func (r *registrar) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// status gives how a registration stands.
func (r *registrar) status(registration *registration) discovery.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := discovery.Status{Since: registration.since, Err: r.fault, Changed: r.changed}
	switch {
	case !registration.up:
	case time.Now().Before(r.expires):
		status.Registered, status.Expires = true, r.expires
	default: // which the goroutine has not found out yet
		status.Since = r.expires
	}
	return status
}

// between draws a time that far from now, from low to high.
func between(low, high time.Duration) time.Time {
	return time.Now().Add(low + rand.N(high-low))
}

// doing names what failed.
func doing(what string, err error) error { return fmt.Errorf("%s: %w", what, err) }
