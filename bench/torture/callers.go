package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

const (
	// hurried is the share of the calls that have a deadline of hurry.
	hurried = 0.02
	hurry   = time.Millisecond
	// pause is how long a caller waits after an error, at most.
	pause = 4 * time.Millisecond
	// attempts is how many attempts a call may have whose RPC declares that it is
	// idempotent.
	attempts = 3
	// asking is how long a caller asks what became of a call.
	asking = 2 * time.Second
)

// callers make calls until the end of the run.
type callers struct {
	settings settings
	book     *executionlog.Log
	bus      *framework.Bus
	echo     testv1.EchoServiceClient
	plain    testv1.PlainServiceClient

	mu      sync.Mutex // guards the fields below
	refused int
	codes   map[string]int // errors by code, and reason of refusal
	settled settled
	took    time.Duration
}

func newCallers(bus *framework.Bus, book *executionlog.Log, settings settings) *callers {
	return &callers{
		settings: settings, book: book, bus: bus, codes: make(map[string]int),
		echo: testv1.NewEchoServiceClient(bus), plain: testv1.NewPlainServiceClient(bus),
	}
}

// run runs all callers.
func (c *callers) run(ctx context.Context) error {
	began := time.Now()
	end := began.Add(c.settings.length)
	var all sync.WaitGroup
	errs := make([]error, c.settings.callers)
	for caller := range c.settings.callers {
		all.Go(func() { errs[caller] = c.call(ctx, caller, end) })
	}
	all.Wait()
	c.took = time.Since(began)
	return errors.Join(errors.Join(errs...), ctx.Err())
}

// call runs one caller, which makes one call after the other.
func (c *callers) call(ctx context.Context, caller int, end time.Time) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for number := 0; ctx.Err() == nil && time.Now().Before(end); number++ {
		id := fmt.Sprintf("%d-%d", caller, number)
		err := c.try(ctx, id)
		if err == nil {
			if err := c.book.Outcome(id, executionlog.OK); err != nil {
				return err
			}
			continue
		}
		outcome := executionlog.OutcomeOf(err)
		c.count(err, outcome)
		if outcome == executionlog.Unknown {
			outcome = c.settle(ctx, id, err)
		}
		if err := c.book.Outcome(id, outcome); err != nil {
			return err
		}
		timer.Reset(rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return nil
}

// try makes one call.
func (c *callers) try(ctx context.Context, id string) error {
	if rand.Float64() < hurried {
		hurried, cancel := context.WithTimeout(ctx, hurry)
		defer cancel()
		ctx = hurried
	}
	var said string
	if rand.Float64() < c.settings.repeatable {
		c.book.Repeatable(id, attempts)
		reply, err := c.echo.Echo(ctx, &testv1.EchoRequest{Text: id})
		if err != nil {
			return err
		}
		said = reply.GetText()
	} else {
		reply, err := c.plain.Ping(ctx, &testv1.PingRequest{Text: id})
		if err != nil {
			return err
		}
		said = reply.GetText()
	}
	if said != id {
		panic(fmt.Sprintf("call %s got the answer of %s", id, said))
	}
	return nil
}

// settle asks what became of a call, and returns its outcome then.
func (c *callers) settle(ctx context.Context, id string, unknown error) executionlog.Outcome {
	ctx, cancel := context.WithTimeout(ctx, asking)
	defer cancel()
	reply := new(testv1.PingResponse) // which has the fields of the other reply
	err := c.bus.Settle(ctx, unknown, reply)
	if status.Code(err) == codes.InvalidArgument { // it is of the other type
		other := new(testv1.EchoResponse)
		err = c.bus.Settle(ctx, unknown, other)
		reply.Text = other.GetText()
	}
	if err == nil && reply.GetText() != id {
		panic(fmt.Sprintf("the settled call %s got the reply of %s", id, reply.GetText()))
	}
	outcome := executionlog.OK
	if err != nil {
		outcome = executionlog.OutcomeOf(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled.count(outcome, err)
	return outcome
}

// count counts an error. A refusal counts whatever its outcome is: it is unknown
// whether the other copy of a duplicate ran.
func (c *callers) count(err error, outcome executionlog.Outcome) {
	code, reason := status.Code(err), atmostonce.ReasonOf(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	name := code.String()
	if reason != "" {
		name += " " + string(reason)
	}
	c.codes[fmt.Sprintf("%s, %s", name, outcome)]++
	if outcome == executionlog.Refused || reason != "" || code == codes.FailedPrecondition {
		c.refused++
	}
}
