package framework

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// connection is a bus's connections to the instances of one service of an API.
type connection struct {
	bus      *Bus
	api      string
	service  string // "" is that of any instance
	registry *remembering
	// limits are what grpc-go holds calls to, by gRPC's path.
	limits map[string]timeout.Limit
	held   *channel // holds calls to limits
	// anonymous is whether it was logged that calls have no identity.
	anonymous atomic.Bool
	drift     *drift
	lines     resolver.Lines // what both channels log of instances

	// patient has no limits, for the rare call whose Timeout is longer than
	// what its .proto declares: grpc-go would take the earlier of the two. It
	// is made at the first such call.
	patient struct {
		mu      sync.Mutex // guards the fields below
		channel *channel
		closed  bool
	}
}

// channel is one of grpc-go's connections, and how it finds instances.
type channel struct {
	*grpc.ClientConn

	finding finding
	links   *links
	calls   *client.Channel
}

// newConnection makes the connections to a service, without I/O.
func newConnection(bus *Bus, to connectionKey) (*connection, error) {
	c := &connection{
		bus: bus, api: to.api, service: to.service, registry: &remembering{Registry: bus.registry},
		limits: make(map[string]timeout.Limit), drift: newDrift(bus, to),
	}
	for _, service := range bus.contracts.Named(to.api) {
		if to.service != "" && to.service != service.API.Service {
			continue
		}
		for _, rpc := range service.API.RPCs {
			if !rpc.Stream {
				c.limits[rpc.Method] = timeout.Declared(rpc.Timeout, service.API.Timeout)
			}
		}
	}
	var err error
	c.held, err = c.dial(c.limits)
	return c, err
}

func (c *connection) dial(limits map[string]timeout.Limit) (*channel, error) {
	ch := &channel{calls: c.bus.caller.NewChannel(), links: newLinks(c.api, c.bus.options.plainText.spoken)}
	ch.calls.WithoutIdentity = c.logAnonymous
	ch.finding.observe(resolver.NewNoAnswerError(c.api))
	options, err := dialOptions(c.bus.options, ch.calls, limits, grpc.WithResolvers(resolver.NewBuilder(c.registry, resolver.Config{
		Observe:    ch.finding.observe,
		Connection: ch.links.observe,
		Zone:       c.bus.options.zone,
		Accept: func(instance discovery.Instance, again func()) error {
			if err := c.requireIdentity(instance); err != nil {
				return err
			}
			return c.drift.accept(ch, instance, again)
		},
		Logger: c.bus.options.log,
		Lines:  &c.lines,
	})))
	if err != nil {
		return nil, err
	}
	if ch.ClientConn, err = grpc.NewClient(resolver.Target(c.api), options...); err != nil {
		return nil, fmt.Errorf("%s: cannot make a connection: %w", c.api, err)
	}
	return ch, nil
}

// invoke makes a unary call. What runs around it, from the outside:
//
//	the request's rules → retries → deadline → the record that binds it →
//	the program's own interceptors → reserved metadata → grpc-go
//
// and on the way back the reply's rules, or an error is told in words.
func (c *connection) invoke(ctx context.Context, route *route, method string, args, reply any, opts []grpc.CallOption) error {
	call, err := timeout.Begin(route.limit, opts)
	if err != nil {
		return failure{route: route, outcome: NotSent, err: err}.told()
	}
	if err := route.checkRequest(args); err != nil {
		return err
	}
	ch := c.held
	if route.configured && call.Longer(route.limit) {
		if ch, err = c.patientChannel(route.rpc); err != nil {
			return err
		}
	}
	retry := retry{bus: c.bus, route: route}
	for {
		before := ch.finding.now()
		// Before the registry has answered grpc-go holds no call to a limit.
		record, err := c.attempt(ctx, ch, call, call.Exact() || !route.configured || retry.retries > 0 || before != nil, method, args, reply, opts)
		if err == nil {
			retry.succeeded()
			if !route.listed {
				c.bus.keepCalled(route, method)
			}
			if err := route.rules.CheckReply(reply); err != nil {
				return failure{route: route, outcome: Executed, written: true, err: err}.told()
			}
			return nil
		}
		failed := newFailure(route, record, retry.outcome(record), err)
		failed.problem = ch.finding.throughout(before)
		failed = failed.locate(ch.links, record, retry.first)
		limited, cancel := call.Context(ctx)
		waited := retry.wait(limited, record, failed)
		cancel()
		if !waited {
			if failed.outcome != Executed {
				failed = failed.late(call.Explain(ctx, route.rpc, err))
			}
			return c.explain(ctx, failed)
		}
	}
}

// checkRequest returns the error of a call with a request that must not be sent.
func (r *route) checkRequest(request any) error {
	if isNil(request) {
		return nilRequest(r.rpc)
	}
	if err := r.rules.CheckRequest(request); err != nil {
		return failure{route: r, outcome: NotSent, err: err}.told()
	}
	return nil
}

// attempt sends a call, once: with its limit on its context, or else held to it
// by the channel.
func (c *connection) attempt(ctx context.Context, ch *channel, call timeout.Call, limit bool, method string, args, reply any, opts []grpc.CallOption) (*client.Attempt, error) {
	if limit {
		var cancel context.CancelFunc
		ctx, cancel = call.Context(ctx)
		defer cancel()
	}
	record := ch.calls.NewAttempt(ctx, method)
	defer record.End() // also when an interceptor panics
	return record, ch.Invoke(record, method, args, reply, opts...)
}

// newStream begins a stream.
func (c *connection) newStream(ctx context.Context, route *route, desc *grpc.StreamDesc, method string, opts []grpc.CallOption) (grpc.ClientStream, error) {
	if timeout.HasOption(opts) {
		return nil, invalid(route.rpc, "it is a stream, which option Timeout does not bound: set a deadline on its context")
	}
	retry := retry{bus: c.bus, route: route}
	for {
		before := c.held.finding.now()
		record := c.held.calls.NewAttempt(ctx, method)
		begun, err := c.begin(record, route, desc, method, opts)
		if err == nil {
			return &stream{ClientStream: begun, retry: retry, conn: c, route: route, record: record}, nil
		}
		failed := newFailure(route, record, retry.outcome(record), err)
		failed.problem = c.held.finding.throughout(before)
		failed = failed.locate(c.held.links, record, retry.first)
		if !retry.wait(ctx, record, failed) {
			return nil, c.explain(ctx, failed)
		}
	}
}

// begin begins a stream whose messages are held to their rules.
func (c *connection) begin(record *client.Attempt, route *route, desc *grpc.StreamDesc, method string, opts []grpc.CallOption) (grpc.ClientStream, error) {
	defer record.End()
	if !route.rules.Checks() {
		return c.held.NewStream(record, desc, method, opts...)
	}
	ctx, cancel := context.WithCancel(record)
	opts = append(slices.Clip(opts), grpc.OnFinish(func(error) { cancel() }))
	begun, err := c.held.NewStream(ctx, desc, method, opts...)
	if err != nil {
		cancel()
		return nil, err
	}
	return route.rules.ClientStream(begun, cancel), nil
}

// explain gives the error of a call that failed, in words. ctx is the caller's
// own.
func (c *connection) explain(ctx context.Context, failed failure) error {
	failed.ended = endOf(ctx, status.Code(failed.err))
	if failed.outcome != Executed && c.bus.ended(ctx, status.Code(failed.err)) {
		failed.problem, failed.written = nil, false
		failed.err = &callError{
			status: status.New(codes.Canceled, ErrClosed.Error()),
			text:   failed.route.rpc + ": " + ErrClosed.Error(),
			causes: []error{ErrClosed, failed.err},
		}
	}
	return failed.told()
}

// patientChannel returns the channel without limits, for a call of an RPC.
func (c *connection) patientChannel(rpc string) (*channel, error) {
	c.patient.mu.Lock()
	defer c.patient.mu.Unlock()
	if c.patient.closed {
		return nil, closedError(rpc)
	}
	if c.patient.channel == nil {
		ch, err := c.dial(nil)
		if err != nil {
			return nil, err
		}
		c.patient.channel = ch
	}
	return c.patient.channel, nil
}

// close ends the connections.
func (c *connection) close() error {
	c.patient.mu.Lock()
	c.patient.closed = true
	patient := c.patient.channel
	c.patient.channel = nil
	c.patient.mu.Unlock()
	err := c.held.Close()
	if patient != nil {
		err = errors.Join(err, patient.Close())
	}
	c.registry.close()
	c.drift.close()
	return err
}
