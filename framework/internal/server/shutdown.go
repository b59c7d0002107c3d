package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/onecall-dev/onecall/framework/observe"
)

// The parts of [ShutdownTimeout] for the steps of a shutdown.
const (
	// leaveShare is the part that leaving the registry may take: a fifth.
	leaveShare = 5
	// replyShare is how long connections stay open after the last handler has
	// returned, so that its caller can read the reply: a tenth. grpc-go closes a
	// connection as soon as its caller has read everything. If a connection is open
	// after that time, its caller is gone or does not read.
	replyShare = 10
	// streamShare is how long before the end the contexts of streams end, so that
	// their handlers can return: a fifth.
	streamShare = 5
	// lastShare is how long before the end connections are closed, so that handlers
	// that still run can return: a twentieth, and at most maxLast.
	lastShare = 20
	maxLast   = time.Second
)

const (
	// drainTime is the time between the registry's update that an instance is
	// draining and the GOAWAY on its connections. Callers receive the update in that
	// time. A call that is sent at the moment of the GOAWAY has an unknown outcome.
	drainTime = 200 * time.Millisecond
	// lookEvery is how often a shutdown checks the calls under way.
	lookEvery = 10 * time.Millisecond
)

// shutdown is the graceful shutdown of a service.
type shutdown struct {
	*Service

	begun time.Time
	// endStreams is when the contexts of streams end, and cut when connections are
	// closed. At end Serve returns, also if handlers still run.
	endStreams, cut, end time.Time
}

// shutDown leaves the registry and finishes the calls under way, within
// ShutdownTimeout. accepting is from how many listeners the server still accepts
// connections.
func (s *Service) shutDown(accepting int) error {
	begun, timeout := time.Now(), s.options.ShutdownTimeout
	s.drain.begin(begun)
	end := begun.Add(timeout)
	last := min(timeout/lastShare, maxLast)
	down := shutdown{Service: s, begun: begun, endStreams: end.Add(-timeout / streamShare), cut: end.Add(-last), end: end}
	log := s.options.Log.With("address", s.address)
	log.Info("shutting down: leaving the registry", "shutdown_timeout", timeout, "lame_duck", s.options.LameDuck)
	s.options.notify.Notify(context.Background(), observe.ShutdownBegan{Timeout: timeout})
	err := down.leave()
	log.Info("the registry was left; finishing the calls under way", "after", down.elapsed(), "calls", s.underWay.all().String())
	err = errors.Join(err, down.finish())
	err = errors.Join(err, down.accepted(accepting))
	log.Info("stopped", "after", down.elapsed())
	s.drain.end(time.Since(begun))
	s.options.notify.Notify(context.Background(), observe.ShutdownEnded{Err: err, Duration: time.Since(begun)})
	return err
}

// accepted waits until the server has stopped accepting connections from its listeners, and
// returns its errors. If a handler keeps the server from stopping, accepted waits until d.end.
func (d *shutdown) accepted(listeners int) (err error) {
	timer := time.NewTimer(time.Until(d.end))
	defer timer.Stop()
	for range listeners {
		select {
		case ended := <-d.served:
			err = errors.Join(err, ended)
		case <-timer.C:
			return err
		}
	}
	return err
}

// elapsed returns how long the shutdown has taken, for the log.
func (d *shutdown) elapsed() time.Duration { return time.Since(d.begun).Round(time.Millisecond) }

// leave removes the instance from the registry, so that callers send no new calls to
// it. After the lame duck it refuses calls that still arrive: their callers retry them at
// another instance.
func (d *shutdown) leave() error {
	var errs []error
	ctx, cancel := context.WithTimeout(d.killed, d.options.ShutdownTimeout/leaveShare)
	defer cancel()
	if err := d.registration.Drain(ctx); err != nil {
		errs = append(errs, fmt.Errorf("onecall: service: leaving the registry: %w", err))
	} else {
		pause(ctx, drainTime)
	}
	// Only now, because callers log an unhealthy instance unless they know that it
	// drains.
	d.health.Shutdown()
	if err := d.registration.Close(ctx); err != nil {
		errs = append(errs, fmt.Errorf("onecall: service: leaving the registry: %w", err))
	}
	if rest := d.options.LameDuck - time.Since(d.begun); rest > 0 {
		d.options.Log.Info("accepting calls until the lame duck has passed", "after", d.elapsed())
		pause(context.Background(), rest)
	}
	d.guard.Drain()
	return errors.Join(errs...)
}

// finish waits for the calls under way. At d.endStreams it ends the contexts of
// streams, and at d.cut it closes the connections that are left.
func (d *shutdown) finish() error {
	endLast := d.answerLast()
	graceful := background(d.finishCalls)
	d.underWay.endInfrastructure()
	defer func() {
		ctx, cancel := context.WithDeadline(context.Background(), d.end)
		defer cancel()
		endLast(ctx)
	}()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	idleSince, streamsEnded := time.Now(), false
	for {
		select {
		case <-graceful:
			graceful = nil // all connections have ended; handlers may go on without theirs
		case <-look.C:
		case <-d.killed.Done():
			return d.cutOff(d.underWay.all())
		}
		now := time.Now()
		running := d.underWay.all()
		switch {
		case graceful == nil && len(running) == 0:
			return nil
		case len(running) == 0 && now.Sub(idleSince) >= d.options.ShutdownTimeout/replyShare:
			d.options.Log.Info("no call is under way; closing the connections that their callers left open", "after", d.elapsed())
			d.await(background(d.endConnections), func() bool { return true })
			return nil
		case !now.Before(d.cut):
			return d.cutOff(running)
		case !now.Before(d.endStreams) && !streamsEnded:
			streamsEnded = true
			if streams := d.underWay.streamCounts(); len(streams) > 0 {
				d.options.Log.Warn("ending the streams that are still open: their handlers can end them before, when framework.Draining says so", "after", d.elapsed(), "streams", streams.String())
			}
			d.underWay.endStreams()
		}
		if len(running) > 0 {
			idleSince = now
		}
	}
}

// cutOff closes all connections, which ends the contexts of all calls, and waits
// until d.end for their handlers. Its error names the calls that were under way.
func (d *shutdown) cutOff(running counts) error {
	after := d.elapsed()
	d.options.Log.Warn("closing all connections, with calls under way", "after", after, "calls", running.String())
	d.guard.EndCalls()
	d.await(background(d.endConnections), func() bool { return len(d.underWay.all()) == 0 })
	err := fmt.Errorf("onecall: service: calls were still under way after %v and were cut off: %v; "+
		"option ShutdownTimeout must allow more, or their handlers must end once framework.Draining says so", after, running)
	left := d.underWay.all()
	if len(left) == 0 {
		return err
	}
	d.options.Log.Error("handlers run on although their context has ended: they must end when it does", "after", d.elapsed(), "calls", left.String())
	return fmt.Errorf("%w; handlers run on although their context has ended: %v", err, left)
}

// await waits until stopped is closed and done returns true, at most until d.end.
func (d *shutdown) await(stopped <-chan struct{}, done func() bool) {
	ctx, cancel := context.WithDeadline(context.Background(), d.end)
	defer cancel()
	for {
		select {
		case <-stopped:
			if done() {
				return
			}
			pause(ctx, lookEvery)
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// background runs f on another goroutine, and closes the channel when f has returned.
// It is for the Stop methods of grpc-go's server, which a handler can delay forever.
func background(f func()) <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	return ended
}

// pause waits for a time, or until ctx ends.
func pause(ctx context.Context, length time.Duration) {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
