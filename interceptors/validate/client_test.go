package validate_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/validate"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// clientStream records the sent messages, and returns replies from a list.
type clientStream struct {
	grpc.ClientStream

	sent    []any
	replies []int64
	ended   error  // the error of RecvMsg after the replies
	during  func() // runs inside RecvMsg
}

func (s *clientStream) SendMsg(msg any) error {
	s.sent = append(s.sent, msg)
	return nil
}

func (s *clientStream) RecvMsg(msg any) error {
	if s.during != nil {
		s.during()
	}
	if len(s.replies) == 0 {
		return s.ended
	}
	msg.(*testv1.HaggleResponse).Price, s.replies = s.replies[0], s.replies[1:]
	return nil
}

func TestACallerSendsNoBadRequestAndTakesNoBadReply(t *testing.T) {
	t.Parallel()
	request := func(price int64) *testv1.HaggleRequest { return &testv1.HaggleRequest{Price: price} }
	lost := status.Error(codes.Canceled, "the context ended")
	tests := map[string]struct {
		run      func(grpc.ClientStream) error
		inner    *clientStream
		code     codes.Code
		sent     int
		canceled bool
	}{
		"all fine": {
			run: func(stream grpc.ClientStream) error {
				return errors.Join(stream.SendMsg(request(1)), stream.RecvMsg(&testv1.HaggleResponse{}))
			},
			inner: &clientStream{replies: []int64{1}}, code: codes.OK, sent: 1,
		},
		"the end": {
			run: func(stream grpc.ClientStream) error {
				if err := stream.RecvMsg(&testv1.HaggleResponse{}); !errors.Is(err, io.EOF) {
					return status.Errorf(codes.Unknown, "error = %v", err)
				}
				return nil
			},
			inner: &clientStream{ended: io.EOF}, code: codes.OK,
		},
		"an error of the stream's own": {
			run:   func(stream grpc.ClientStream) error { return stream.RecvMsg(&testv1.HaggleResponse{}) },
			inner: &clientStream{ended: lost}, code: codes.Canceled,
		},
		"a bad request": {
			run:   func(stream grpc.ClientStream) error { return stream.SendMsg(request(0)) },
			inner: &clientStream{}, code: codes.InvalidArgument, canceled: true,
		},
		"a good request after a bad one": {
			run: func(stream grpc.ClientStream) error {
				_ = stream.SendMsg(request(0))
				return stream.SendMsg(request(1))
			},
			inner: &clientStream{}, code: codes.InvalidArgument, canceled: true,
		},
		"a reply after a bad request": {
			run: func(stream grpc.ClientStream) error {
				_ = stream.SendMsg(request(0))
				return stream.RecvMsg(&testv1.HaggleResponse{})
			},
			inner: &clientStream{ended: lost}, code: codes.InvalidArgument, canceled: true,
		},
		"a bad reply": {
			run: func(stream grpc.ClientStream) error {
				return errors.Join(stream.RecvMsg(&testv1.HaggleResponse{}), stream.RecvMsg(&testv1.HaggleResponse{}))
			},
			inner: &clientStream{replies: []int64{1, -1}}, code: codes.Internal, canceled: true,
		},
		"a good reply after a bad one": {
			run: func(stream grpc.ClientStream) error {
				_ = stream.RecvMsg(&testv1.HaggleResponse{})
				return stream.RecvMsg(&testv1.HaggleResponse{})
			},
			inner: &clientStream{replies: []int64{-1, 1}}, code: codes.Internal, canceled: true,
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			canceled := false
			err := test.run(compiled(t, "Haggle").ClientStream(test.inner, func() { canceled = true }))
			code := codes.OK
			var own interface{ GRPCStatus() *status.Status }
			if errors.As(err, &own) {
				code = own.GRPCStatus().Code()
			} else if err != nil {
				t.Fatal(err)
			}
			if code != test.code || len(test.inner.sent) != test.sent || canceled != test.canceled {
				t.Errorf("error = %v, sent %v, canceled %v", err, test.inner.sent, canceled)
			}
		})
	}
}

func TestTheFirstFaultOfAStreamIsToldToBothSides(t *testing.T) {
	t.Parallel()
	inner := &clientStream{ended: status.Error(codes.Canceled, "the context ended")}
	stream := compiled(t, "Haggle").ClientStream(inner, func() {})
	inner.during = func() { _ = stream.SendMsg(&testv1.HaggleRequest{}) }
	if err := stream.RecvMsg(&testv1.HaggleResponse{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("error = %v, want the request's", err)
	}
}

func TestAReceiverLearnsThatABadRequestEndedTheStream(t *testing.T) {
	t.Parallel()
	conn := serveWith(t, stubborn(func(err error) error { return err }))
	stream, err := testv1.NewRulesServiceClient(checked{conn, methods(t)}).Haggle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	received := make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			_, err = stream.Recv() // the first Recv gets a reply, the second waits
		}
		received <- err
	}()
	if err := stream.Send(&testv1.HaggleRequest{Price: 1}); err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testv1.HaggleRequest{}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("the sender gets %v", err)
	}
	if err := <-received; status.Code(err) != codes.InvalidArgument {
		t.Errorf("the receiver gets %v", err)
	}
}

// checked is a connection that checks the messages of its client streams.
type checked struct {
	*grpc.ClientConn

	methods map[string]validate.Method
}

func (c checked) NewStream(ctx context.Context, desc *grpc.StreamDesc, path string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.ClientConn.NewStream(ctx, desc, path, append(opts, grpc.OnFinish(func(error) { cancel() }))...)
	if err != nil {
		cancel()
		return nil, err
	}
	return c.methods[path].ClientStream(stream, cancel), nil
}

func TestACallersStreamsAreCheckedInAllShapes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		shape  string
		prices []int64
		code   codes.Code
		want   []string
	}{
		"one request, all fine":         {"follow", []int64{1, 2}, codes.OK, nil},
		"one request that breaks rules": {"follow", nil, codes.InvalidArgument, []string{"prices repeated.min_items"}},
		"one request, a bad reply":      {"follow", []int64{1, -2}, codes.Internal, []string{"price int64.gt"}},
		"many requests, all fine":       {"gather", []int64{1, 2}, codes.OK, nil},
		"many requests, one is bad":     {"gather", []int64{1, 0}, codes.InvalidArgument, []string{"price int64.not_in"}},
		"many requests, a bad reply":    {"gather", []int64{-1}, codes.Internal, []string{"price int64.gt"}},
		"both ways, all fine":           {"haggle", []int64{1, 2}, codes.OK, nil},
		"both ways, a bad request":      {"haggle", []int64{1, 0}, codes.InvalidArgument, []string{"price int64.not_in"}},
		"both ways, a bad reply":        {"haggle", []int64{1, -1}, codes.Internal, []string{"price int64.gt"}},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			ended := make(chan context.Context, 1)
			conn := serveWith(t, stubborn(func(err error) error { return err }),
				grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
					defer func() { ended <- stream.Context() }()
					return handler(srv, stream)
				})) // does not check messages
			err := streams[test.shape](t, testv1.NewRulesServiceClient(checked{conn, methods(t)}), test.prices...)
			if status.Code(err) != test.code || !slices.Equal(broken(err), test.want) {
				t.Errorf("error = %v, want %v of %q", err, test.code, test.want)
			}
			// The stream must end at the server.
			select {
			case <-(<-ended).Done():
			case <-t.Context().Done():
			}
		})
	}
}
