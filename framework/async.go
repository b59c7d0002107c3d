package framework

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// Call is a call under way, made by [CallAsync]. Its methods are safe for all
// goroutines.
type Call[Reply any] struct {
	done  chan struct{}
	reply *Reply // set, with err, before done is closed
	err   error
}

// CallAsync makes a call without waiting for its reply. rpc is a method of a generated
// client, such as auth.CheckPassword. The call's timeout begins when CallAsync is
// called. The end of ctx cancels the call. The program need not call Await. If the
// call panics, for example in an interceptor, it ends with INTERNAL and the id of an
// incident, [slog.Default] logs the stack with that id, and the process goes on.
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
		call.err = callerr.Invalid("onecall: CallAsync", "the context is nil: give context.Background() if there is no other")
	case rpc == nil:
		call.err = callerr.Invalid("onecall: CallAsync", "rpc is nil: give a generated client's method, such as auth.CheckPassword")
	}
	if call.err != nil {
		close(call.done)
		return call
	}
	// A later option of the same kind overrides the first. The caller's slice must not
	// be changed.
	all := append([]grpc.CallOption{timeout.Since(time.Now())}, opts...)
	go func() {
		defer close(call.done)
		returned := false
		defer func() {
			if !returned {
				call.reply, call.err = nil, abandoned(ctx, recover())
			}
		}()
		call.reply, call.err = rpc(ctx, request, all...)
		returned = true
	}()
	return call
}

// abandoned returns the error of a call whose goroutine panicked, or was ended with
// [runtime.Goexit] if cause is nil. The outcome is unknown, because the call may have
// been sent before. The log has only the type of the panic's value, because the value
// may contain a message.
func abandoned(ctx context.Context, cause any) error {
	incident, what := rand.Text(), "ended its goroutine with runtime.Goexit, as t.FailNow does: it must return instead"
	if cause != nil {
		what = fmt.Sprintf("panicked with a value of type %T", cause)
		if fault, ok := cause.(runtime.Error); ok {
			what = "panicked: " + fault.Error()
		}
	}
	slog.Default().ErrorContext(ctx, "a call of CallAsync "+what, "incident", incident, "stack", string(debug.Stack()))
	text := "onecall: the call did not return, because an interceptor or a wrapper of the client failed; the log has the cause under incident " + incident
	return callerr.New(status.New(codes.Internal, text), Unknown, text+" ("+Unknown.String()+")")
}

// Done returns a channel that is closed when the call has ended. Then Await returns at
// once.
func (c *Call[Reply]) Done() <-chan struct{} { return c.done }

// Await waits for the call, and returns its reply or error. If ctx ends first, it
// returns an error with the code of ctx's error, and the call goes on. Await can be
// called again.
func (c *Call[Reply]) Await(ctx context.Context) (*Reply, error) {
	if ctx == nil {
		return nil, callerr.Invalid("onecall: Await", "the context is nil: give context.Background() if there is no other")
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
		return nil, callerr.Waiting(ctx, "stopped waiting for the call, which goes on: "+ctx.Err().Error())
	}
}
