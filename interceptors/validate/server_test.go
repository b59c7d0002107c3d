package validate_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/validate"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestAServerChecksUnaryCallsAndGoesOn(t *testing.T) {
	t.Parallel()
	own := status.Error(codes.NotFound, "no such order")
	tests := map[string]struct {
		req   *testv1.OrderRequest
		reply *testv1.OrderResponse
		err   error
		code  codes.Code
		says  string
		ran   bool
		log   string
	}{
		"a request and a reply that keep to the rules": {req: fine(), reply: &testv1.OrderResponse{Id: 1}, code: codes.OK, ran: true},
		"a request that breaks them":                   {req: order(func(r *testv1.OrderRequest) { r.Items[0].Price = 0 }), code: codes.InvalidArgument, says: "items[0].price: must be greater than 0"},
		"an empty request":                             {req: &testv1.OrderRequest{}, code: codes.InvalidArgument, says: "customer: must be at least 1 characters"},
		"a reply that breaks them": {
			req: fine(), reply: &testv1.OrderResponse{Id: -1}, code: codes.Internal, ran: true,
			says: "test.rules.order: the reply breaks the API's rules: id [int64.gt]", log: "a handler's reply breaks the API's rules",
		},
		"no reply": {
			req: fine(), code: codes.Internal, ran: true,
			says: "test.rules.order: the handler returned neither a reply nor an error: it must return one of them", log: "a handler returned neither a reply nor an error",
		},
		"an error of the handler's own":           {req: fine(), err: own, code: codes.NotFound, says: "no such order", ran: true},
		"an error, and a reply that breaks rules": {req: fine(), reply: &testv1.OrderResponse{}, err: own, code: codes.NotFound, says: "no such order", ran: true},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			ran := 0
			conn, log := serve(t, &server{order: func(*testv1.OrderRequest) (*testv1.OrderResponse, error) {
				ran++
				return test.reply, test.err
			}}, false)
			client := testv1.NewRulesServiceClient(conn)
			for range 2 { // the server continues after an error
				_, err := client.Order(t.Context(), test.req)
				if status.Code(err) != test.code || test.says != "" && !strings.Contains(err.Error(), test.says) {
					t.Fatalf("error = %v, want %v with %q", err, test.code, test.says)
				}
			}
			if (ran == 2) != test.ran {
				t.Errorf("the handler ran %d times", ran)
			}
			lines := linesOf(t, log)
			if test.log == "" && len(lines) != 0 || test.log != "" && (len(lines) != 2 || lines[0].Msg != test.log || lines[0].RPC != "test.rules.order") {
				t.Errorf("the log has %+v, want %q twice", lines, test.log)
			}
		})
	}
}

func TestANilReplyOfAMethodWithoutRulesIsAnErrorToo(t *testing.T) {
	t.Parallel()
	var nothing struct {
		pointer *testv1.FreeResponse
		reply   any
	}
	conn, log := serve(t, &server{free: func(*testv1.FreeRequest) (*testv1.FreeResponse, error) { return nothing.pointer, nil }}, false)
	_, err := testv1.NewRulesServiceClient(conn).Free(t.Context(), &testv1.FreeRequest{})
	if status.Code(err) != codes.Internal || len(linesOf(t, log)) != 1 {
		t.Errorf("error = %v, log %s", err, log.String())
	}
	// A handler that is not generated code may return a nil that is not a pointer.
	check := validate.UnaryServerInterceptor(slog.New(slog.DiscardHandler), methods(t), false)
	_, err = check(t.Context(), &testv1.FreeRequest{}, &grpc.UnaryServerInfo{FullMethod: testv1.RulesService_Free_FullMethodName},
		func(context.Context, any) (any, error) { return nothing.reply, nil })
	var absent *validate.NoReplyError
	if !errors.As(err, &absent) || absent.RPC != "test.rules.free" || status.Code(err) != codes.Internal {
		t.Errorf("error = %v", err)
	}
}

func TestMethodsThatNobodyCompiledAreLeftAlone(t *testing.T) {
	t.Parallel()
	logger := slog.New(slog.DiscardHandler)
	conn := serveWith(t, &server{
		order: func(*testv1.OrderRequest) (*testv1.OrderResponse, error) { return &testv1.OrderResponse{}, nil },
		follow: func(_ *testv1.FollowRequest, stream grpc.ServerStreamingServer[testv1.FollowResponse]) error {
			return stream.Send(&testv1.FollowResponse{})
		},
	},
		grpc.UnaryInterceptor(validate.UnaryServerInterceptor(logger, nil, true)),
		grpc.StreamInterceptor(validate.StreamServerInterceptor(logger, nil, true)))
	client := testv1.NewRulesServiceClient(conn)
	if _, err := client.Order(t.Context(), &testv1.OrderRequest{}); err != nil {
		t.Error(err)
	}
	stream, err := client.Follow(t.Context(), &testv1.FollowRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Error(err)
	}
}

// streams run one stream of each shape. Each sends prices as messages and returns the error
// that the stream ends with, nil if it ends normally.
var streams = map[string]func(t *testing.T, client testv1.RulesServiceClient, prices ...int64) error{
	"follow": func(t *testing.T, client testv1.RulesServiceClient, prices ...int64) error {
		t.Helper()
		stream, err := client.Follow(t.Context(), &testv1.FollowRequest{Prices: prices})
		for err == nil {
			_, err = stream.Recv()
		}
		return orderly(err)
	},
	"gather": func(t *testing.T, client testv1.RulesServiceClient, prices ...int64) error {
		t.Helper()
		stream, err := client.Gather(t.Context())
		if err != nil {
			return err
		}
		for _, price := range prices {
			if err := stream.Send(&testv1.GatherRequest{Price: price}); errors.Is(err, io.EOF) {
				break // the server has ended the stream; CloseAndRecv returns the reason
			} else if err != nil {
				return err
			}
		}
		_, err = stream.CloseAndRecv()
		return err
	},
	"haggle": func(t *testing.T, client testv1.RulesServiceClient, prices ...int64) error {
		t.Helper()
		stream, err := client.Haggle(t.Context())
		if err != nil {
			return err
		}
		for _, price := range prices {
			if err := stream.Send(&testv1.HaggleRequest{Price: price}); err != nil && !errors.Is(err, io.EOF) {
				return err
			}
			if _, err := stream.Recv(); err != nil {
				return orderly(err)
			}
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		_, err = stream.Recv()
		return orderly(err)
	},
}

func orderly(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// stubborn returns a server whose handlers ignore errors and continue. They return the
// result of convert for the first error.
func stubborn(convert func(error) error) *server {
	return &server{
		follow: func(req *testv1.FollowRequest, stream grpc.ServerStreamingServer[testv1.FollowResponse]) error {
			var first error
			for _, price := range req.GetPrices() {
				if err := stream.Send(&testv1.FollowResponse{Price: price}); first == nil {
					first = err
				}
			}
			return convert(first)
		},
		gather: func(stream grpc.ClientStreamingServer[testv1.GatherRequest, testv1.GatherResponse]) error {
			var sum int64
			for {
				req, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return convert(stream.SendAndClose(&testv1.GatherResponse{Price: sum}))
				} else if err != nil {
					return convert(errors.Join(err, stream.SendAndClose(&testv1.GatherResponse{Price: 1})))
				}
				sum += req.GetPrice()
			}
		},
		haggle: func(stream grpc.BidiStreamingServer[testv1.HaggleRequest, testv1.HaggleResponse]) error {
			for {
				req, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return convert(err)
				}
				if err := stream.Send(&testv1.HaggleResponse{Price: req.GetPrice()}); err != nil {
					_, again := stream.Recv()
					return convert(errors.Join(err, again))
				}
			}
		},
	}
}

// endings convert an error to the error that the handler returns.
var endings = map[string]func(error) error{
	"the handler returns the error":   func(err error) error { return err },
	"the handler returns none":        func(error) error { return nil },
	"the handler returns another one": func(error) error { return status.Error(codes.Aborted, "another") },
}

func TestAServerChecksEachMessageOfAStreamAndGoesOn(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		shape  string
		prices []int64
		want   string
	}{
		"one request, all replies fine":    {"follow", []int64{1, 2}, ""},
		"one request that breaks rules":    {"follow", nil, "test.rules.follow: the request breaks the API's rules: prices: must contain at least 1 item(s) [repeated.min_items]"},
		"one request, a bad reply":         {"follow", []int64{1, 2, -3, 4}, "test.rules.follow: the reply breaks the API's rules: price [int64.gt]"},
		"many requests, one reply":         {"gather", []int64{3, -1}, ""},
		"many requests, the second is bad": {"gather", []int64{1, 0, 1}, "test.rules.gather: the request breaks the API's rules: price: must not be in list [0] [int64.not_in]"},
		"many requests, a bad reply":       {"gather", []int64{-3}, "test.rules.gather: the reply breaks the API's rules: price [int64.gt]"},
		"both ways, all fine":              {"haggle", []int64{1, 2}, ""},
		"both ways, a bad request":         {"haggle", []int64{1, 0, 1}, "test.rules.haggle: the request breaks the API's rules: price: must not be in list [0] [int64.not_in]"},
		"both ways, a bad reply":           {"haggle", []int64{1, -1, 1}, "test.rules.haggle: the reply breaks the API's rules: price [int64.gt]"},
	}
	for title, test := range tests {
		for ending, convert := range endings {
			t.Run(title+", "+ending, func(t *testing.T) {
				t.Parallel()
				if test.want == "" {
					convert = func(err error) error { return err }
				}
				conn, log := serve(t, stubborn(convert), false)
				client := testv1.NewRulesServiceClient(conn)
				for range 2 { // the server continues after an error
					sent := status.Convert(streams[test.shape](t, client, test.prices...))
					code, lines := codes.OK, 0
					switch {
					case strings.Contains(test.want, "request"):
						code = codes.InvalidArgument
					case test.want != "":
						code, lines = codes.Internal, 1
					}
					if sent.Code() != code || sent.Message() != test.want {
						t.Fatalf("status = %v %s\nwant     %v %s", sent.Code(), sent.Message(), code, test.want)
					}
					if got := len(linesOf(t, log)); got != lines && got != 2*lines {
						t.Errorf("the log has %s", log.String())
					}
				}
			})
		}
	}
}

func TestABadReplyOfAStreamIsNotSent(t *testing.T) {
	t.Parallel()
	conn, _ := serve(t, stubborn(func(err error) error { return err }), false)
	stream, err := testv1.NewRulesServiceClient(conn).Follow(t.Context(), &testv1.FollowRequest{Prices: []int64{1, -2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	var got []int64
	for {
		reply, err := stream.Recv()
		if err != nil {
			break
		}
		got = append(got, reply.GetPrice())
	}
	if len(got) != 1 || got[0] != 1 {
		t.Errorf("replies = %v, want the first alone", got)
	}
}

func TestANilReplyOfAStreamIsAnError(t *testing.T) {
	t.Parallel()
	conn, log := serve(t, &server{gather: func(stream grpc.ClientStreamingServer[testv1.GatherRequest, testv1.GatherResponse]) error {
		return stream.SendAndClose(nil)
	}}, false)
	err := streams["gather"](t, testv1.NewRulesServiceClient(conn), 1)
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "neither a reply nor an error") || len(linesOf(t, log)) != 1 {
		t.Errorf("error = %v, log %s", err, log.String())
	}
}

func TestWhatHasNoRulesCostsNoAllocation(t *testing.T) {
	logger := slog.New(slog.DiscardHandler)
	known := methods(t)
	unary := validate.UnaryServerInterceptor(logger, known, false)
	stream := validate.StreamServerInterceptor(logger, map[string]validate.Method{"/free": known[testv1.RulesService_Free_FullMethodName]}, false)
	req, reply := &testv1.FreeRequest{Text: "x"}, &testv1.FreeResponse{Text: "x"}
	reply.ProtoReflect() // initializes the message type
	var msg any = reply
	handler := func(context.Context, any) (any, error) { return msg, nil }
	free, other := &grpc.UnaryServerInfo{FullMethod: testv1.RulesService_Free_FullMethodName}, &grpc.UnaryServerInfo{FullMethod: "/other"}
	freeStream, otherStream := &grpc.StreamServerInfo{FullMethod: "/free"}, &grpc.StreamServerInfo{FullMethod: "/other"}
	var plain grpc.ServerStream = &serverStream{}
	streamHandler := func(_ any, got grpc.ServerStream) error {
		if got != plain {
			return errors.New("the stream is wrapped")
		}
		return nil
	}
	ctx := t.Context()
	method := known[testv1.RulesService_Free_FullMethodName]
	var client grpc.ClientStream = &clientStream{}
	for title, run := range map[string]func() error{
		"a unary call of a method without rules": func() error { _, err := unary(ctx, req, free, handler); return err },
		"a unary call of another method":         func() error { _, err := unary(ctx, req, other, handler); return err },
		"a stream of a method without rules":     func() error { return stream(nil, plain, freeStream, streamHandler) },
		"a stream of another method":             func() error { return stream(nil, plain, otherStream, streamHandler) },
		"a check of a request":                   func() error { return method.CheckRequest(req) },
		"a check of a reply":                     func() error { return method.CheckReply(reply) },
		"a stream of the caller": func() error {
			if method.ClientStream(client, nil) != client {
				return errors.New("the stream is wrapped")
			}
			return nil
		},
	} {
		t.Run(title, func(t *testing.T) {
			if err := run(); err != nil {
				t.Errorf("%s: %v", title, err)
			}
			if allocs := testing.AllocsPerRun(100, func() { _ = run() }); allocs != 0 {
				t.Errorf("%s: %v allocations", title, allocs)
			}
		})
	}
}

type serverStream struct{ grpc.ServerStream }

func TestTheRulesOfASimpleMessageCostNoAllocation(t *testing.T) {
	method := compiled(t, "Check")
	req := &testv1.CheckRequest{Username: "adam", Password: "correct horse"}
	if allocs := testing.AllocsPerRun(100, func() {
		if err := method.CheckRequest(req); err != nil {
			t.Error(err)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
