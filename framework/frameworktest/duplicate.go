package frameworktest

import (
	"context"
	"net"
	"slices"
	"strings"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// notCopied are headers that grpc-go writes itself.
var notCopied = []string{"te", "content-type", "user-agent", strikeKey}

// duplicate sends a copy of a call to the instance that serves it, and waits until it is
// refused.
func (s *strike) duplicate(call serving) {
	s.mu.Lock()
	header, to := s.header, s.to
	s.mu.Unlock()
	if to == nil {
		return // the connection is encrypted
	}
	err := s.copy(call, metadataOf(header), to)
	if call.ctx.Err() != nil {
		return
	}
	s.strikes()
	if atmostonce.ReasonOf(err) != atmostonce.DuplicateCall {
		s.kit.tb.Errorf("frameworktest: a copy of a call of %s was not refused: %v", s.method.RPC.Name, err)
	}
}

// copy sends a copy of a call, over a connection of its own, and returns its error.
func (s *strike) copy(call serving, headers metadata.MD, to *generation) error {
	conn, err := grpc.NewClient("passthrough:///"+to.instance.Address(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableRetry(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return to.listener.dial(ctx) }))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx := metadata.NewOutgoingContext(call.ctx, headers)
	if !s.stream {
		return conn.Invoke(ctx, call.method, call.request, new(emptypb.Empty))
	}
	copied, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, call.method)
	if err != nil {
		return err
	}
	if err := copied.CloseSend(); err != nil {
		return err
	}
	return copied.RecvMsg(new(emptypb.Empty))
}

// metadataOf returns the metadata in headers.
func metadataOf(header []hpack.HeaderField) metadata.MD {
	copied := make(metadata.MD)
	for _, field := range header {
		if strings.HasPrefix(field.Name, ":") || strings.HasPrefix(field.Name, "grpc-") || slices.Contains(notCopied, field.Name) {
			continue
		}
		copied.Append(field.Name, field.Value)
	}
	return copied
}
