package etcd

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/onecall-dev/onecall/discovery"
)

// writeState is what a registrar knows of its writes; its lock guards the fields.
type writeState struct {
	// written is the version that etcd has. progress is closed and replaced when it
	// grows.
	written  uint64
	progress chan struct{}
	// denied are the keys of that version that etcd does not permit this process to
	// write, with its errors.
	denied map[string]error
	// err is why the last attempt to write failed, nil if it did not, and errSince
	// when the first of these attempts failed.
	err      error
	errSince time.Time
	// expires is when the lease ends unless it is renewed; zero without a lease.
	expires time.Time
	// changed is closed and replaced when the status of a registration changes.
	changed chan struct{}
}

// line is a line for the log. It is written when the registrar's lock is no longer
// held: a log's handler may call the registry.
type line struct {
	level slog.Level
	text  string
	attrs []any
}

// linesAMinute is how many lines with the same text are logged within a minute.
// Another program may delete a key or revoke a lease again and again.
const linesAMinute = 10

// update calls change under the lock, and then logs the lines that it returned. Only
// the registrar's goroutine calls update, so that lines are in order.
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

// markWritten records that etcd has a version, except for the denied keys, and wakes
// the goroutines that wait for it. ok reports whether a write has just succeeded.
func (r *registrar) markWritten(version uint64, denied map[string]error, ok bool) {
	r.update(func() []line {
		r.state.denied = denied
		if r.state.written != version {
			r.state.written = version
			close(r.state.progress)
			r.state.progress = make(chan struct{})
		}
		if ok {
			return r.setError(nil)
		}
		return r.updateStatus()
	})
}

// await returns when etcd has a version, or why it has not.
func (r *registrar) await(ctx context.Context, version uint64) error {
	for {
		r.mu.Lock()
		written, progress, err := r.state.written, r.state.progress, r.state.err
		r.mu.Unlock()
		if written >= version {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-r.conn.Life().Done():
			return errors.Join(errClosed, err)
		}
	}
}

// setError stores the error of the last attempt, nil if it succeeded, and returns
// the lines to log. r.mu must be held.
func (r *registrar) setError(err error) (lines []line) {
	before := r.state.err
	r.state.err = err
	switch {
	case err != nil && before == nil && r.conn.Life().Err() == nil:
		r.state.errSince = time.Now()
		lines = append(lines, line{slog.LevelWarn, "cannot write to etcd; trying again until it works", []any{"etcd", r.describe, "error", err}})
		r.notify()
	case err == nil && before != nil:
		lines = append(lines, line{slog.LevelInfo, "writing to etcd works again", []any{"after", since(r.state.errSince)}})
		r.notify()
	}
	return append(lines, r.updateStatus()...)
}

// updateStatus finds out which registrations are in etcd, and returns the lines to
// log. r.mu must be held.
func (r *registrar) updateStatus() (lines []line) {
	now, expired := time.Now(), r.state.expires
	lease := r.keeper.lease
	r.state.expires = time.Time{}
	if lease != nil {
		r.state.expires = lease.expires
	}
	changed := false
	for registration := range r.registrations {
		registered := now.Before(r.state.expires) && registration.sinceVersion <= r.state.written && r.denial(registration) == nil && lease.hasAll(registration.entries)
		if registered == registration.registered {
			continue
		}
		before := registration.since
		registration.registered, registration.since, changed = registered, now, true
		if !registered {
			if !expired.IsZero() && expired.Before(now) { // the lease ended then
				registration.since = expired
			}
			lines = append(lines, line{slog.LevelWarn, "no longer registered in etcd; registering again until it works", registration.attrs(because(cmp.Or(r.denial(registration), r.state.err))...)})
			continue
		}
		if registration.before {
			lines = append(lines, line{slog.LevelInfo, "registered in etcd again", registration.attrs("lease", lease.String(), "after", since(before))})
		} else {
			lines = append(lines, line{slog.LevelInfo, "registered in etcd", registration.attrs("lease", lease.String())})
		}
		registration.before = true
	}
	if changed {
		r.notify()
	}
	return lines
}

// attrs returns what a log line says of a registration.
func (r *registration) attrs(more ...any) []any {
	return append([]any{"apis", r.apis(), "entries", len(r.entries)}, more...)
}

// because returns the attribute of an error, none if there is none.
func because(err error) []any {
	if err == nil {
		return nil
	}
	return []any{"error", err}
}

// since returns how long ago a time is, as a log shows it.
func since(then time.Time) time.Duration { return time.Since(then).Round(time.Millisecond) }

// denial returns why etcd does not permit a registration, nil if it does. r.mu must
// be held.
func (r *registrar) denial(registration *registration) error {
	for key := range registration.entries {
		if err := r.state.denied[key]; err != nil {
			return err
		}
	}
	return nil
}

// notify wakes the goroutines that wait for a change of a status. r.mu must be held.
func (r *registrar) notify() {
	close(r.state.changed)
	r.state.changed = make(chan struct{})
}

// statusOf returns the status of a registration.
func (r *registrar) statusOf(registration *registration) discovery.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := discovery.Status{Since: registration.since, Err: r.state.err, Changed: r.state.changed}
	switch {
	case !registration.registered:
	case time.Now().Before(r.state.expires):
		status.Registered, status.Expires = true, r.state.expires
	default: // the goroutine has not noticed yet that the lease has ended
		status.Since = r.state.expires
	}
	return status
}
