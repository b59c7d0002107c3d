package framework_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/grpctest"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// tooLong is a text that breaks the rule of Echo's request.
var tooLong = strings.Repeat("x", 65537)

func TestARequestThatBreaksRulesIsNotSent(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	registry := memory.New()
	serve(t, registry, &echo{echo: counting(&runs)})
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{Text: tooLong})
	var invalid *validate.Error
	if status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) != framework.NotSent || !errors.As(err, &invalid) || invalid.Violations[0].Field != "text" {
		t.Errorf("a request with a text that is too long = %v", err)
	}
	if !strings.HasPrefix(err.Error(), "test.echo.echo: ") || !strings.HasSuffix(err.Error(), "(the call was not sent)") {
		t.Errorf("the error is %q", err)
	}
	// The bus neither uses the registry nor connects for it.
	_, err = testv1.NewEchoServiceClient(newBus(t, untouched{fixed{}, t})).Echo(t.Context(), &testv1.EchoRequest{Text: tooLong})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("the same on a registry that must not be asked = %v", err)
	}

	// A caller without the rules gets the error from the server, which continues.
	client, _ := direct(t, registry)
	_, err = client.Echo(t.Context(), &testv1.EchoRequest{Text: tooLong})
	found := false
	for _, detail := range status.Convert(err).Details() {
		if request, ok := detail.(*errdetails.BadRequest); ok {
			found = len(request.GetFieldViolations()) == 1 && request.GetFieldViolations()[0].GetField() == "text"
		}
	}
	if status.Code(err) != codes.InvalidArgument || !found {
		t.Errorf("the same of a plain gRPC client = %v, with %v", err, status.Convert(err).Details())
	}
	if runs.Load() != 0 {
		t.Errorf("the handler ran %d times for requests that break rules", runs.Load())
	}
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil || runs.Load() != 1 {
		t.Errorf("a good request after it = %v", err)
	}
}

// untouched is a registry that must not be called.
type untouched struct {
	fixed

	t *testing.T
}

func (u untouched) Watch(api string, _ func(discovery.Snapshot)) func() {
	u.t.Errorf("the registry was asked for %s", api)
	return func() {}
}

// rules serves RulesService; its functions are run by the RPC of their name.
type rules struct {
	testv1.UnimplementedRulesServiceServer

	check  func() (*testv1.CheckResponse, error)
	haggle func(int64) int64
	runs   atomic.Int64
}

func (r *rules) Check(context.Context, *testv1.CheckRequest) (*testv1.CheckResponse, error) {
	r.runs.Add(1)
	return r.check()
}

// Order returns a reply that breaks the rules.
func (*rules) Order(context.Context, *testv1.OrderRequest) (*testv1.OrderResponse, error) {
	return &testv1.OrderResponse{}, nil
}

func (*rules) Give(_ context.Context, req *testv1.GiveRequest) (*testv1.GiveResponse, error) {
	var given []string
	req.ProtoReflect().Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		given = append(given, string(field.Name()))
		return true
	})
	slices.Sort(given)
	return &testv1.GiveResponse{Given: given}, nil
}

func (r *rules) Haggle(stream grpc.BidiStreamingServer[testv1.HaggleRequest, testv1.HaggleResponse]) error {
	for {
		req, err := stream.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := stream.Send(&testv1.HaggleResponse{Price: r.haggle(req.GetPrice())}); err != nil {
			return err
		}
	}
}

func (r *rules) register(apis grpc.ServiceRegistrar) { testv1.RegisterRulesServiceServer(apis, r) }

func TestAServiceOutlivesEveryBadReplyAndHandler(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	handler := &rules{}
	lines := new(testlog.Log)
	serveAny(t, registry, handler.register, framework.Logger(lines.Logger()))
	bus := newBus(t, registry)
	ready(t, bus, "test.rules")
	client := testv1.NewRulesServiceClient(bus)
	request := &testv1.CheckRequest{Username: "admin", Password: "correct hunter2"}
	for name, test := range map[string]struct {
		check func() (*testv1.CheckResponse, error)
		code  codes.Code
		line  string
	}{
		"returns nil": {func() (*testv1.CheckResponse, error) { return nil, nil }, codes.Internal, "neither a reply nor an error"}, //nolint:nilnil // which is what is tested
		"panics":      {func() (*testv1.CheckResponse, error) { panic("on purpose") }, codes.Internal, "a value of type string"},
		"fails":       {func() (*testv1.CheckResponse, error) { return nil, status.Error(codes.NotFound, "nobody") }, codes.NotFound, ""},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 {
				handler.check = test.check
				_, err := client.Check(t.Context(), request)
				if status.Code(err) != test.code || framework.OutcomeOf(err) != framework.Executed {
					t.Errorf("a handler that %s = %v (%v), want %v of a call that ran", name, err, framework.OutcomeOf(err), test.code)
				}
				if lines.Count(test.line) == 0 {
					t.Errorf("a handler that %s: the log does not say %q", name, test.line)
				}
			}
		})
	}
	handler.check = func() (*testv1.CheckResponse, error) { return &testv1.CheckResponse{Valid: true}, nil }
	if reply, err := client.Check(t.Context(), request); err != nil || !reply.GetValid() {
		t.Errorf("a call after them = %v, %v", reply, err)
	}
	if lines.Count("hunter2") != 0 {
		t.Error("the log has a password")
	}
}

// haggling serves test.rules and returns a plain gRPC client of it, which checks
// nothing, and a bus.
func haggling(t *testing.T, lines *testlog.Log) (plain, onBus testv1.RulesServiceClient) {
	t.Helper()
	registry := memory.New()
	handler := &rules{haggle: func(price int64) int64 { return price }}
	serveAny(t, registry, handler.register, framework.Logger(lines.Logger()))
	bus := newBus(t, registry)
	ready(t, bus, "test.rules")
	watched := discoverytest.Watch(t, registry, "test.rules")
	address := watched.Until(t, "an instance", func(s discovery.Snapshot) bool { return len(s.Instances) == 1 }).Instances[0].Address
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return testv1.NewRulesServiceClient(conn), testv1.NewRulesServiceClient(bus)
}

// haggle sends prices, one after the other, and returns how many replies came
// before the stream ended, and how it did.
func haggle(t *testing.T, client testv1.RulesServiceClient, prices ...int64) (replies int, err error) {
	t.Helper()
	ctx := eventually.Context(t)
	stream, err := client.Haggle(ctx)
	if err != nil {
		return 0, err
	}
	for _, price := range prices {
		if err := stream.Send(&testv1.HaggleRequest{Price: price}); err != nil {
			if errors.Is(err, io.EOF) {
				_, err = stream.Recv()
			}
			return replies, err
		}
		if _, err := stream.Recv(); err != nil {
			return replies, err
		}
		replies++
	}
	if err := stream.CloseSend(); err != nil {
		return replies, err
	}
	_, err = stream.Recv()
	return replies, err
}

func TestEachMessageOfAStreamIsHeldToItsRulesAtAllFourPoints(t *testing.T) {
	t.Parallel()
	lines := new(testlog.Log)
	plain, onBus := haggling(t, lines)
	for name, test := range map[string]struct {
		client  testv1.RulesServiceClient
		prices  []int64
		replies int
		code    codes.Code
		whose   string
	}{
		"a bad request from a bus":                {onBus, []int64{1, 2, 0}, 2, codes.InvalidArgument, "request"},
		"a bad request past the caller's checks":  {plain, []int64{1, 2, 0}, 2, codes.InvalidArgument, "request"},
		"a bad reply of the handler's":            {plain, []int64{1, -2}, 1, codes.Internal, "reply"},
		"a bad reply of the handler's, for a bus": {onBus, []int64{1, -2}, 1, codes.Internal, "reply"},
	} {
		t.Run(name, func(t *testing.T) {
			replies, err := haggle(t, test.client, test.prices...)
			if replies != test.replies || status.Code(err) != test.code || !strings.Contains(err.Error(), "the "+test.whose+" breaks") || !strings.Contains(err.Error(), "price") {
				t.Errorf("%s: after %d replies %v, want %v after %d", name, replies, err, test.code, test.replies)
			}
		})
	}
	if lines.Count("price") == 0 {
		t.Error("the log tells of no bad reply")
	}
	if replies, err := haggle(t, onBus, 3, 2, 1); replies != 3 || !errors.Is(err, io.EOF) {
		t.Errorf("a good stream after them: %d replies, %v", replies, err)
	}
}

// unchecked returns a client, on a bus, of test.rules on a plain gRPC server, which
// checks nothing.
func unchecked(t *testing.T) testv1.RulesServiceClient {
	t.Helper()
	handler := &rules{haggle: func(price int64) int64 { return price }}
	server := grpc.NewServer()
	handler.register(server)
	registry := memory.New()
	if _, err := registry.Register(discovery.Instance{API: "test.rules", Address: grpctest.Loopback(t, server)}); err != nil {
		t.Fatal(err)
	}
	return testv1.NewRulesServiceClient(newBus(t, registry))
}

func TestACallerChecksWhatAServerDoesNot(t *testing.T) {
	t.Parallel()
	client := unchecked(t)
	if replies, err := haggle(t, client, 1, -2); replies != 1 || status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "reply breaks") {
		t.Errorf("a stream with a bad reply: %d replies, %v", replies, err)
	}
	_, err := client.Order(t.Context(), &testv1.OrderRequest{
		Customer: "admin", Items: []*testv1.OrderItem{{Name: "tea", Price: 1}}, Payment: &testv1.OrderRequest_Account{Account: "1234"},
	})
	if status.Code(err) != codes.Internal || !errors.As(err, new(*validate.Error)) || framework.OutcomeOf(err) != framework.Executed {
		t.Errorf("a call with a bad reply = %v (%v)", err, framework.OutcomeOf(err))
	}
}

func TestABadReplyOfAStreamProvesThatItsHandlerRan(t *testing.T) {
	t.Parallel()
	ctx := eventually.Context(t)
	stream, err := unchecked(t).Haggle(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testv1.HaggleRequest{Price: -1}); err != nil {
		t.Fatal(err)
	}
	_, received := stream.Recv()
	for what, err := range map[string]error{"that receives it": received, "after it": stream.Send(&testv1.HaggleRequest{Price: 1})} {
		t.Run(what, func(t *testing.T) {
			var bad *validate.Error
			if !errors.As(err, &bad) || !bad.Reply || status.Code(err) != codes.Internal || framework.OutcomeOf(err) != framework.Executed {
				t.Errorf("the call %s = %v (%v), want INTERNAL of a handler that ran", what, err, framework.OutcomeOf(err))
			}
		})
	}

	// The error of a bad request does not prove that the handler ran.
	_, err = haggle(t, unchecked(t), 0)
	if status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) == framework.Executed {
		t.Errorf("a stream with a bad request = %v (%v)", err, framework.OutcomeOf(err))
	}
}
