package framework

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/internal/contract"
)

// connection is a bus's connections to the instances of one API.
type connection struct {
	bus *Bus
	api string
	// limits are what grpc-go holds calls to, by gRPC's path.
	limits map[string]timeout.Limit
	conn   *grpc.ClientConn

	// finding says why no instance can be found, while none can.
	finding finding

	// patient has no limits, for the rare call whose Timeout is longer than
	// what its .proto declares: grpc-go would take the earlier of the two. It
	// is made at the first such call.
	patient struct {
		mu     sync.Mutex // guards the fields below
		conn   *grpc.ClientConn
		closed bool
	}
}

// newConnection makes the connections of an API, without I/O.
func newConnection(bus *Bus, api string) (*connection, error) {
	c := &connection{bus: bus, api: api, limits: make(map[string]timeout.Limit)}
	for _, service := range contract.Named(protoregistry.GlobalFiles, api) {
		for _, rpc := range service.RPCs {
			if !rpc.Stream {
				c.limits[rpc.Method] = timeout.Declared(rpc.Timeout, service.Timeout)
			}
		}
	}
	c.finding.api = api
	c.finding.observe(nil)
	var err error
	c.conn, err = c.dial(c.limits, c.finding.observe)
	return c, err
}

func (c *connection) dial(limits map[string]timeout.Limit, observe func(*discovery.Snapshot)) (*grpc.ClientConn, error) {
	options, err := dialOptions(c.bus.options.dial, limits, grpc.WithResolvers(resolver.NewBuilder(c.bus.registry, observe)))
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(resolver.Target(c.api), options...)
	if err != nil {
		return nil, fmt.Errorf("onecall: bus: connection to %s: %w", c.api, err)
	}
	return conn, nil
}

// invoke makes a unary call. What runs around it, from the outside:
//
//	deadline → the program's own interceptors → grpc-go
//
// and on the way back an error is told in words.
func (c *connection) invoke(ctx context.Context, route *route, method string, args, reply any, opts []grpc.CallOption) error {
	call, err := timeout.Begin(route.limit, opts)
	if err != nil {
		return err
	}
	conn, inner, before := c.conn, ctx, c.finding.now()
	if call.Exact() || !route.configured {
		if route.configured && call.Longer(route.limit) {
			if conn, err = c.patientConn(); err != nil {
				return err
			}
		}
		var cancel context.CancelFunc
		inner, cancel = call.Context(ctx)
		defer cancel()
	}
	if err := conn.Invoke(inner, method, args, reply, opts...); err != nil {
		return c.explain(ctx, route, before, call.Explain(ctx, route.rpc, err))
	}
	return nil
}

// newStream begins a stream.
func (c *connection) newStream(ctx context.Context, route *route, desc *grpc.StreamDesc, method string, opts []grpc.CallOption) (grpc.ClientStream, error) {
	if timeout.HasOption(opts) {
		return nil, invalid("%s is a stream, which option Timeout does not bound: set a deadline on its context", route.rpc)
	}
	before := c.finding.now()
	stream, err := c.conn.NewStream(ctx, desc, method, opts...)
	if err != nil {
		return nil, c.explain(ctx, route, before, err)
	}
	return stream, nil
}

// explain says why no instance was found, when that is why a call failed:
// before is the problem of finding one when the call began.
func (c *connection) explain(ctx context.Context, route *route, before *problem, err error) error {
	code := status.Code(err)
	if code == codes.Canceled && c.bus.closed.Load() && ctx.Err() == nil {
		return &callError{code: code, text: route.rpc + ": " + ErrClosed.Error(), causes: []error{ErrClosed, err}}
	}
	if code != codes.Unavailable && code != codes.DeadlineExceeded {
		return err
	}
	problem := c.finding.throughout(before)
	switch {
	case problem == nil:
		return err
	case code == codes.DeadlineExceeded:
		return &callError{code: code, text: err.Error() + ": " + problem.err.Error(), causes: []error{err, problem.err}}
	default:
		return &callError{code: problem.code(), text: route.rpc + ": " + problem.err.Error(), causes: []error{problem.err, err}}
	}
}

// patientConn gives the connection without limits.
func (c *connection) patientConn() (*grpc.ClientConn, error) {
	c.patient.mu.Lock()
	defer c.patient.mu.Unlock()
	if c.patient.closed {
		return nil, ErrClosed
	}
	if c.patient.conn == nil {
		conn, err := c.dial(nil, nil)
		if err != nil {
			return nil, err
		}
		c.patient.conn = conn
	}
	return c.patient.conn, nil
}

// close ends the connections.
func (c *connection) close() error {
	c.patient.mu.Lock()
	defer c.patient.mu.Unlock()
	c.patient.closed = true
	err := c.conn.Close()
	if c.patient.conn != nil {
		err = errors.Join(err, c.patient.conn.Close())
		c.patient.conn = nil
	}
	return err
}
