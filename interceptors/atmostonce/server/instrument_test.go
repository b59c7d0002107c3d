package server_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
)

// incomingStream is a stream that came with metadata and has a request.
type incomingStream struct {
	grpc.ServerStream

	ctx context.Context
}

func (s incomingStream) Context() context.Context { return s.ctx }
func (incomingStream) RecvMsg(any) error          { return nil }

// TestAStreamForWhichGRPCCallsNoInterceptorIsAdmitted is of one that streams in
// neither direction.
func TestAStreamForWhichGRPCCallsNoInterceptorIsAdmitted(t *testing.T) {
	t.Parallel()
	incarnation := discovery.NewIncarnation()
	guard, err := server.New(server.Config{Incarnation: incarnation, RequireIdentity: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guard.Close)
	ran := 0
	instrumented := guard.Instrument(&grpc.ServiceDesc{ServiceName: "a.B", Streams: []grpc.StreamDesc{{
		StreamName: "C", Handler: func(_ any, stream grpc.ServerStream) error {
			if err := stream.RecvMsg(nil); err != nil {
				return err
			}
			ran++
			return nil
		},
	}}})
	call := func(md metadata.MD) error {
		return instrumented.Streams[0].Handler(nil, incomingStream{ctx: metadata.NewIncomingContext(t.Context(), md)})
	}
	identity := atmostonce.Identity{Incarnation: incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1}
	if err := call(nil); atmostonce.ReasonOf(err) != atmostonce.IdentityRequired || ran != 0 {
		t.Errorf("without an identity: %v, ran %d times", err, ran)
	}
	if err := call(metadata.Pairs(atmostonce.CallKey, identity.Value())); err != nil || ran != 1 {
		t.Errorf("a call: %v, ran %d times", err, ran)
	}
	if err := call(metadata.Pairs(atmostonce.CallKey, identity.Value())); atmostonce.ReasonOf(err) != atmostonce.DuplicateCall || ran != 1 {
		t.Errorf("a copy: %v, ran %d times", err, ran)
	}
}
