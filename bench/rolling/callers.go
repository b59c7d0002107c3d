package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// callers call until they are stopped.
type callers struct {
	book    *executionlog.Log
	stopped chan struct{} // closed when no further call begins
	running sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	counts counts
	errs   []error // that make the run void
}

// counts are what happened to calls and streams.
type counts struct {
	calls, plain int // that had their replies, on a bus and of plain callers
	longest      time.Duration
	streams      int            // that ended because their handler said so
	failed       map[string]int // calls, by error and outcome
	cut          map[string]int // streams that ended otherwise
}

func newCallers(book *executionlog.Log) *callers {
	return &callers{book: book, stopped: make(chan struct{}), counts: counts{failed: make(map[string]int), cut: make(map[string]int)}}
}

// stop lets all callers end their last call, and waits for them.
func (c *callers) stop() error {
	close(c.stopped)
	c.running.Wait()
	return errors.Join(c.errs...)
}

func (c *callers) goesOn() bool {
	select {
	case <-c.stopped:
		return false
	default:
		return true
	}
}

// begin starts callers on a connection, which is a bus or a plain one.
func (c *callers) begin(ctx context.Context, name string, conn grpc.ClientConnInterface, count int) {
	_, onBus := conn.(*framework.Bus)
	echo, plain := testv1.NewEchoServiceClient(conn), testv1.NewPlainServiceClient(conn)
	for caller := range count {
		kind := c.call(ctx, plain, onBus)
		switch caller % 8 {
		case 0:
			kind = c.watch(ctx, echo)
		case 4:
			kind = c.chat(ctx, echo)
		}
		c.running.Go(func() {
			for number := 0; c.goesOn(); number++ {
				kind(fmt.Sprintf("%s-%d-%d", name, caller, number))
			}
		})
	}
}

// call makes one call.
func (c *callers) call(ctx context.Context, client testv1.PlainServiceClient, onBus bool) func(id string) {
	return func(id string) {
		began := time.Now()
		reply, err := client.Ping(ctx, &testv1.PingRequest{Text: id})
		took := time.Since(began)
		if err == nil && reply.GetText() != id {
			err = fmt.Errorf("call %s got the reply of %s", id, reply.GetText())
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		outcome := executionlog.OK
		switch {
		case err != nil:
			outcome = outcomeOf(err)
			c.counts.failed[fmt.Sprintf("%v, %s", err, outcome)]++
		case onBus:
			c.counts.calls++
		default:
			c.counts.plain++
		}
		c.counts.longest = max(c.counts.longest, took)
		c.note(id, outcome)
	}
}

// watch has one stream that only receives.
func (c *callers) watch(ctx context.Context, client testv1.EchoServiceClient) func(id string) {
	return func(id string) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := client.Watch(ctx, &testv1.WatchRequest{Text: id})
		for err == nil && c.goesOn() {
			_, err = stream.Recv()
		}
		c.ended(id, err)
	}
}

// chat has one stream that sends and receives.
func (c *callers) chat(ctx context.Context, client testv1.EchoServiceClient) func(id string) {
	return func(id string) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := client.Chat(ctx)
		for err == nil && c.goesOn() {
			_ = stream.Send(&testv1.ChatRequest{Text: id}) // Recv returns its error
			_, err = stream.Recv()
		}
		c.ended(id, err)
	}
}

// ended counts the end of a stream. err is nil if this program ended it.
func (c *callers) ended(id string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	outcome := executionlog.OK
	if err != nil {
		outcome = outcomeOf(err)
		if status.Code(err) == status.Code(errTold) {
			c.counts.streams++
		} else {
			c.counts.cut[fmt.Sprintf("%v, %s", err, outcome)]++
		}
	}
	c.note(id, outcome)
}

// note records the outcome of a call. c.mu must be held.
func (c *callers) note(id string, outcome executionlog.Outcome) {
	if err := c.book.Outcome(id, outcome); err != nil {
		c.errs = append(c.errs, err)
	}
}

// outcomeOf returns the outcome of a call that failed. That of a plain call says nothing,
// except if its handler ended a stream.
func outcomeOf(err error) executionlog.Outcome {
	outcome := executionlog.OutcomeOf(err)
	if outcome == executionlog.Unknown && status.Code(err) == codes.Aborted {
		return executionlog.Executed
	}
	return outcome
}
