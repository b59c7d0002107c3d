package client

import (
	"context"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/inprocess"
)

// retryAttemptKey is the metadata in which go-grpc-middleware's retry
// interceptor counts attempts after the first.
const retryAttemptKey = "x-retry-attempt"

var errRetriedOutside = status.Error(codes.FailedPrecondition, "a retry interceptor retries this call outside of the bus, "+
	"so it could run twice: remove the interceptor; the bus retries calls itself where that is safe")

// prepare returns a call's context without outgoing metadata whose keys begin with
// [atmostonce.Prefix]: only the framework sends such keys, not a program or a gateway.
// It also returns the metadata that is left. It refuses a retry that a retry interceptor
// around the bus makes.
func prepare(ctx context.Context) (context.Context, metadata.MD, error) {
	outgoing, ok := metadata.FromOutgoingContext(ctx)
	if !ok {
		return ctx, nil, nil
	}
	found := false
	if attempts := outgoing[retryAttemptKey]; len(attempts) > 0 {
		if slices.Equal(attempts, metadata.ValueFromIncomingContext(ctx, retryAttemptKey)) {
			// A handler passes on the metadata that it was called with. It
			// counts the attempts of its caller's call, not of this one.
			delete(outgoing, retryAttemptKey)
			found = true
		} else if attempt := attemptOf(ctx); attempt != nil && attempt.mayBind() {
			return nil, nil, errRetriedOutside
		}
	}
	for key := range outgoing {
		if strings.HasPrefix(key, atmostonce.Prefix) {
			delete(outgoing, key)
			found = true
		}
	}
	if !found {
		return ctx, outgoing, nil
	}
	return metadata.NewOutgoingContext(ctx, outgoing), outgoing, nil
}

// UnaryClientInterceptor removes reserved metadata from unary calls and refuses their
// retries. A call takes a link if it may: see [Attempt.UseLink]. The interceptor is for the
// channel's own connection, and must be the innermost, so that no other adds such metadata.
func (c *Channel) UnaryClientInterceptor(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	ctx, outgoing, err := prepare(ctx)
	if err != nil {
		return err
	}
	attempt := attemptOf(ctx)
	taken, err := c.overLink(ctx, attempt, method, req, reply, inprocess.Caller{Metadata: outgoing, Options: opts, Life: c.life})
	if !taken {
		if attempt != nil {
			ctx = attempt.newSending(ctx)
		}
		err = invoker(ctx, method, req, reply, conn, opts...)
	}
	if err != nil && attempt != nil {
		attempt.failed(err)
		if attempt.unwritable(req, opts, err) {
			attempt.unwritten()
		}
	}
	hideReserved(opts)
	return err
}

// StreamClientInterceptor does the same for streams.
func (c *Channel) StreamClientInterceptor(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	ctx, outgoing, err := prepare(ctx)
	if err != nil {
		return nil, err
	}
	attempt := attemptOf(ctx)
	stream, err := c.streamOverLink(ctx, attempt, desc, method, inprocess.Caller{Metadata: outgoing, Options: opts, Life: c.life})
	if stream == nil && err == nil {
		if attempt != nil {
			ctx = attempt.newSending(ctx)
		}
		stream, err = streamer(ctx, desc, conn, method, opts...)
	}
	switch {
	case attempt == nil:
		return stream, err
	case err != nil:
		attempt.failed(err)
		return nil, err
	default:
		return &callerStream{ClientStream: stream, attempt: attempt, desc: desc, opts: opts}, nil
	}
}

// hideReserved removes reserved keys from the header and trailer that call options
// received. A handler may pass those of a call that it made on to its own caller,
// which must not read in them what became of that call.
func hideReserved(opts []grpc.CallOption) {
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			*opt.HeaderAddr = atmostonce.WithoutReserved(*opt.HeaderAddr)
		case grpc.TrailerCallOption:
			*opt.TrailerAddr = atmostonce.WithoutReserved(*opt.TrailerAddr)
		}
	}
}
