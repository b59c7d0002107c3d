package framework

import (
	"context"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/client"
)

// Stream begins a stream by name, without generated code:
//
//	stream, err := bus.Stream(ctx, "shop.watch_orders", framework.Args{"customer": "adam"})
//
// The schema is found as in [Bus.Call]. Parameters, if there are any, are the first
// request, and the only one if requests are not a stream. Options of the call follow them.
// The only timeout of the stream is the deadline of ctx. The program must end ctx, or
// receive until Recv returns an error.
//
// Errors are those of [Bus.NewStream], and:
//   - INVALID_ARGUMENT: the name is not valid, the RPC is not a stream, or the parameters
//     are wrong, as for [Bus.Call]. The stream was not begun.
//   - UNIMPLEMENTED: the API does not have the RPC.
func (b *Bus) Stream(ctx context.Context, name string, args ...any) (*Stream, error) {
	parameters, options, positional := sortArgs(args)
	if positional != nil {
		return nil, callerr.Invalid(name, "parameters go by name only: give one framework.Args, and the options after it")
	}
	begun, err := b.calls.StreamByName(ctx, name, parameters, options)
	if err != nil {
		return nil, err
	}
	return &Stream{rpc: name, begun: begun}, nil
}

// Stream is a stream that was begun by name. One goroutine may send while another
// receives. Two must not send at once, or receive at once.
type Stream struct {
	rpc   string
	begun *client.NamedStream
}

// Send sends a request with these parameters, which are those of [Bus.Call]. If they are
// wrong, it returns an error with the code INVALID_ARGUMENT and sends nothing, and the
// stream goes on. If the stream has ended, it returns io.EOF, and Recv returns why.
func (s *Stream) Send(parameters Args) error { return s.begun.Send(parameters) }

// CloseSend says that no more requests follow.
func (s *Stream) CloseSend() error { return s.begun.CloseSend() }

// Recv returns the next reply. After the last reply it returns io.EOF. If the stream has
// failed, it returns an error with an outcome, as those of [Bus.NewStream].
func (s *Stream) Recv() (*Reply, error) {
	message, types, err := s.begun.Recv()
	if err != nil {
		return nil, err
	}
	return &Reply{rpc: s.rpc, message: message, types: types}, nil
}
