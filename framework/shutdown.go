package framework

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The parts of [ShutdownTimeout] of which a shutdown is made.
const (
	// leaveShare is the part that leaving the registry may take: a fifth.
	leaveShare = 5
	// replyShare is the part for which connections stay open after the last
	// handler has returned, so that its caller can take the reply: a tenth.
	// grpc-go closes a connection itself once its caller has taken all; what is
	// open after that time has a caller that is gone, or that reads nothing.
	replyShare = 10
	// streamShare is the part, before the end, in which streams whose context
	// was ended can return: a fifth.
	streamShare = 5
	// lastShare is the part, at the end, in which handlers whose connections
	// were closed can return: a twentieth, and maxLast at most.
	lastShare = 20
	maxLast   = time.Second
)

const (
	// drainTime is how long callers have to learn that an instance is
	// draining before its connections get a GOAWAY. A call that is sent just
	// then ends with an unknown outcome.
	drainTime = 200 * time.Millisecond
	// lookEvery is how often a shutdown looks at the calls under way.
	lookEvery = 10 * time.Millisecond
)

// shutdown is the graceful shutdown of a service.
type shutdown struct {
	*Service

	begun time.Time
	// endStreams, cut and end are when the contexts of streams are ended, when
	// connections are closed, and when Serve returns whatever still runs.
	endStreams, cut, end time.Time
}

// shutDown leaves the registry and finishes the calls under way, within
// ShutdownTimeout. served has the error of accepting connections; nil when that was
// received before.
func (s *Service) shutDown(served <-chan error) error {
	begun, timeout := time.Now(), s.options.shutdownTimeout
	end := begun.Add(timeout)
	last := min(timeout/lastShare, maxLast)
	down := shutdown{Service: s, begun: begun, endStreams: end.Add(-timeout / streamShare), cut: end.Add(-last), end: end}
	log := s.options.log.With("address", s.address)
	log.Info("shutting down: leaving the registry", "shutdown_timeout", timeout)
	s.options.notify.notify(context.Background(), ShutdownBegan{Timeout: timeout})
	err := down.leave()
	log.Info("the registry was left; finishing the calls under way", "after", down.elapsed(), "calls", s.underWay.all().String())
	err = errors.Join(err, down.finish())
	err = errors.Join(err, down.accepted(served))
	log.Info("stopped", "after", down.elapsed())
	s.options.notify.notify(context.Background(), ShutdownEnded{Err: err, Duration: time.Since(begun)})
	return err
}

// accepted returns the error of accepting connections, which ends with the
// server: at once, unless a handler keeps the server from stopping.
func (d *shutdown) accepted(served <-chan error) error {
	if served == nil {
		return nil
	}
	timer := time.NewTimer(time.Until(d.end))
	defer timer.Stop()
	select {
	case err := <-served:
		return err
	case <-timer.C:
		return nil
	}
}

// elapsed is for the log.
func (d *shutdown) elapsed() time.Duration { return time.Since(d.begun).Round(time.Millisecond) }

// leave takes the instance out of the registry, so that no new calls come, and
// then refuses those that come all the same: their callers retry them at another
// instance.
func (d *shutdown) leave() error {
	var errs []error
	ctx, cancel := context.WithTimeout(context.Background(), d.options.shutdownTimeout/leaveShare)
	defer cancel()
	if err := d.registration.Drain(ctx); err != nil {
		errs = append(errs, fmt.Errorf("onecall: service: leaving the registry: %w", err))
	} else {
		pause(ctx, drainTime)
	}
	// Not before callers know that the instance drains: they log an instance that is
	// unhealthy.
	d.health.Shutdown()
	if err := d.registration.Close(ctx); err != nil {
		errs = append(errs, fmt.Errorf("onecall: service: leaving the registry: %w", err))
	}
	d.guard.Drain()
	return errors.Join(errs...)
}

// finish waits for the calls under way, ends the streams among them when their
// time has come, and closes the connections that are left at the end.
func (d *shutdown) finish() error {
	graceful := background(d.server.GracefulStop)
	d.underWay.endInfrastructure()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	idleSince, streamsEnded := time.Now(), false
	for {
		select {
		case <-graceful:
			return nil
		case <-look.C:
		}
		now := time.Now()
		running := d.underWay.all()
		switch {
		case len(running) == 0 && now.Sub(idleSince) >= d.options.shutdownTimeout/replyShare:
			d.options.log.Info("no call is under way; closing the connections that their callers left open", "after", d.elapsed())
			d.await(background(d.server.Stop), func() bool { return true })
			return nil
		case !now.Before(d.cut):
			return d.cutOff(running)
		case !now.Before(d.endStreams) && !streamsEnded:
			streamsEnded = true
			if streams := d.underWay.streamCounts(); len(streams) > 0 {
				d.options.log.Warn("ending the streams that are still open: their handlers can end them before, when framework.Draining says so", "after", d.elapsed(), "streams", streams.String())
			}
			d.underWay.endStreams()
		}
		if len(running) > 0 {
			idleSince = now
		}
	}
}

// cutOff closes all connections, which ends the contexts of all calls, and waits
// for their handlers for the rest of the time. The error says what was under way.
func (d *shutdown) cutOff(running counts) error {
	after := d.elapsed()
	d.options.log.Warn("closing all connections, with calls under way", "after", after, "calls", running.String())
	d.await(background(d.server.Stop), func() bool { return len(d.underWay.all()) == 0 })
	err := fmt.Errorf("onecall: service: calls were still under way after %v and were cut off: %v; "+
		"option ShutdownTimeout must allow more, or their handlers must end once framework.Draining says so", after, running)
	left := d.underWay.all()
	if len(left) == 0 {
		return err
	}
	d.options.log.Error("handlers run on although their context has ended: they must end when it does", "after", d.elapsed(), "calls", left.String())
	return fmt.Errorf("%w; handlers run on although their context has ended: %v", err, left)
}

// await waits until stopped is closed and done returns true, at most until the
// end of the time.
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

// background runs f on a goroutine of its own and closes the channel when that
// has ended. grpc-go's stops return when it does, which a handler can delay
// forever.
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
