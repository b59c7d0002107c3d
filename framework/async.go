package framework

import (
	"context"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// Call is a call under way, made by [CallAsync]. Its methods are safe for all
// goroutines.
type Call[Reply any] struct {
	done  chan struct{}
	reply *Reply // set, with err, before done is closed
	err   error
}

// CallAsync makes a call without waiting for its reply: rpc is a generated
// client's method, such as auth.CheckPassword. The call's time counts from
// here. Ending ctx cancels the call; nobody needs to await it.
//
//	call := framework.CallAsync(ctx, auth.CheckPassword, &authv1.CheckPasswordRequest{…})
//	reply, err := call.Await(ctx)
func CallAsync[Request, Reply any](
	ctx context.Context,
	rpc func(context.Context, *Request, ...grpc.CallOption) (*Reply, error),
	request *Request,
	opts ...grpc.CallOption,
) *Call[Reply] {
	call := &Call[Reply]{done: make(chan struct{})}
	switch {
	case ctx == nil:
		call.err = invalid("CallAsync: the context is nil: give context.Background() if there is no other")
	case rpc == nil:
		call.err = invalid("CallAsync: rpc is nil: give a generated client's method, such as auth.CheckPassword")
	}
	if call.err != nil {
		close(call.done)
		return call
	}
	// The options that come first are overridden by later ones of their kind;
	// the caller's slice is not written to.
	all := append([]grpc.CallOption{timeout.Since(time.Now())}, opts...)
	go func() {
		defer close(call.done)
		call.reply, call.err = rpc(ctx, request, all...)
	}()
	return call
}

// Done is closed when the call has ended: Await returns at once then.
func (c *Call[Reply]) Done() <-chan struct{} { return c.done }

// Await returns what the call ended with. When ctx ends first it returns an
// error with the code of ctx's, and the call goes on: it can be awaited again.
func (c *Call[Reply]) Await(ctx context.Context) (*Reply, error) {
	if ctx == nil {
		return nil, invalid("Await: the context is nil: give context.Background() if there is no other")
	}
	select {
	case <-c.done:
		return c.reply, c.err
	default:
	}
	select {
	case <-c.done:
		return c.reply, c.err
	case <-ctx.Done():
		return nil, waitError(ctx, "stopped waiting for the call, which goes on: "+ctx.Err().Error())
	}
}
