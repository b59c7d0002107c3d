package ended

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/framework/observe"
)

const (
	// queued is how many lines wait for the logger at most. Further ones are dropped.
	queued = 1024
	// flushTime is how long the end of a log waits for its lines.
	flushTime = time.Second
)

// Log writes a line for each call that failed, and at the level debug for each other
// call. A goroutine writes, so that no call waits for the logger. Lines are dropped, and
// counted, while the logger is too slow.
type Log struct {
	log     *slog.Logger
	lines   chan line
	dropped atomic.Uint64
	stop    chan struct{}
	stopped chan struct{}
}

// line is a line to write, and the context for the handler of the logger.
type line struct {
	ctx    context.Context //nolint:containedctx // on its way to the logger
	record slog.Record
}

var _ Watcher = (*Log)(nil)

// NewLog returns a log that writes to a logger. The caller must close it.
func NewLog(log *slog.Logger) *Log {
	l := &Log{log: log, lines: make(chan line, queued), stop: make(chan struct{}), stopped: make(chan struct{})}
	go l.run()
	return l
}

// level returns the level of the line of a call.
func level(code codes.Code) slog.Level {
	switch {
	case code == codes.OK:
		return slog.LevelDebug
	case observe.ServerError(code):
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// Wants implements [Watcher].
func (l *Log) Wants(ctx context.Context, code codes.Code, _ time.Duration) bool {
	return l.log.Enabled(ctx, level(code))
}

// Add implements [Watcher].
func (l *Log) Add(ctx context.Context, call Call) {
	text := "made a call"
	if call.Served {
		text = "served a call"
	}
	record := slog.NewRecord(call.At, level(call.Code), text, 0)
	record.AddAttrs(slog.String("rpc", call.RPC), slog.String("code", observe.StatusName(call.Code)), slog.String("outcome", call.outcome()), slog.Duration("took", call.Took))
	if !call.Served {
		record.AddAttrs(slog.Int("attempts", call.Attempts))
	}
	for _, text := range []slog.Attr{slog.String("instance", call.Address), slog.String("call", call.ID), slog.String("error", call.Err)} {
		if text.Value.String() != "" {
			record.AddAttrs(text)
		}
	}
	select {
	case l.lines <- line{context.WithoutCancel(ctx), record}:
	default:
		l.dropped.Add(1)
	}
}

// Dropped returns how many lines were dropped.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// run writes the lines until the log is closed, and then those that wait.
func (l *Log) run() {
	defer close(l.stopped)
	reported := uint64(0)
	for {
		select {
		case next := <-l.lines:
			l.write(next)
		case <-l.stop:
			for {
				select {
				case next := <-l.lines:
					l.write(next)
				default:
					return
				}
			}
		}
		if dropped := l.dropped.Load(); dropped != reported && len(l.lines) == 0 {
			l.log.Warn("lines of calls were dropped, because the logger is too slow", "lines", dropped-reported)
			reported = dropped
		}
	}
}

// write writes a line. A panic of the logger's handler loses the line alone.
func (l *Log) write(next line) {
	defer func() {
		if recover() != nil {
			l.dropped.Add(1)
		}
	}()
	_ = l.log.Handler().Handle(next.ctx, next.record) // a logger has no place for its errors
}

// Close ends the log, if it is not nil. It waits until the lines are written, but not for
// a logger that is stuck.
func (l *Log) Close() {
	if l == nil {
		return
	}
	close(l.stop)
	timer := time.NewTimer(flushTime)
	defer timer.Stop()
	select {
	case <-l.stopped:
	case <-timer.C:
	}
}
