package framework_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// everyShape calls an RPC of each shape; each returns the error it ends with.
// Requests are messages or, with a codec that takes them, raw bytes.
var everyShape = map[string]func(ctx context.Context, conn grpc.ClientConnInterface, request any, opts ...grpc.CallOption) error{
	"unary": func(ctx context.Context, conn grpc.ClientConnInterface, request any, opts ...grpc.CallOption) error {
		return conn.Invoke(ctx, testv1.EchoService_Echo_FullMethodName, request, &testv1.EchoResponse{}, opts...)
	},
	"server streaming": streaming(testv1.EchoService_Watch_FullMethodName, grpc.StreamDesc{ServerStreams: true}),
	"client streaming": streaming(testv1.EchoService_Collect_FullMethodName, grpc.StreamDesc{ClientStreams: true}),
	"bidirectional":    streaming(testv1.EchoService_Chat_FullMethodName, grpc.StreamDesc{ClientStreams: true, ServerStreams: true}),
}

func streaming(path string, desc grpc.StreamDesc) func(context.Context, grpc.ClientConnInterface, any, ...grpc.CallOption) error {
	return func(ctx context.Context, conn grpc.ClientConnInterface, request any, opts ...grpc.CallOption) error {
		stream, err := conn.NewStream(ctx, &desc, path, opts...)
		if err != nil {
			return err
		}
		if err := stream.SendMsg(request); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err := stream.CloseSend(); err != nil {
			return err
		}
		for {
			if err := stream.RecvMsg(&testv1.WatchResponse{}); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if !desc.ServerStreams {
				return nil
			}
		}
	}
}

// rawCodec sends bytes as they are, and reads messages.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	if raw, ok := v.([]byte); ok {
		return raw, nil
	}
	return proto.Marshal(v.(proto.Message))
}

func (rawCodec) Unmarshal(data []byte, v any) error { return proto.Unmarshal(data, v.(proto.Message)) }

func (rawCodec) Name() string { return "proto" }

func TestARequestThatIsRefusedBeforeItsMethodRanIsToldSo(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{}, framework.StrictSchema(), framework.ServerOptions(grpc.MaxRecvMsgSize(1000)))
	_, instance := direct(t, registry)
	conn := dialled(t, instance.Address)
	for title, request := range map[string]struct {
		bytes  []byte
		code   codes.Code
		silent bool
	}{
		"an unknown field": {bytes: []byte{0x98, 0x3f, 1}, code: codes.InvalidArgument},
		// These grpc-go refuses, and sends its error before it returns it.
		"bytes that are not a message": {bytes: []byte{0xff}, code: codes.Internal, silent: true},
		"too many bytes":               {bytes: make([]byte, 2000), code: codes.ResourceExhausted, silent: true},
	} {
		for shape, call := range everyShape {
			want := []string{atmostonce.OutcomeRefused}
			switch {
			case request.silent:
				want = nil
			case shape == "client streaming", shape == "bidirectional": // the method starts before the first message comes
				want = []string{atmostonce.OutcomeExecuted}
			}
			t.Run(title+", "+shape, func(t *testing.T) {
				t.Parallel()
				var trailer metadata.MD
				identity := atmostonce.Identity{Incarnation: instance.Incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1}
				err := call(identified(t.Context(), identity), conn, request.bytes, grpc.ForceCodec(rawCodec{}), grpc.Trailer(&trailer))
				if got := trailer.Get(atmostonce.OutcomeKey); status.Code(err) != request.code || !slices.Equal(got, want) {
					t.Errorf("error, outcome = %v, %q; want %v, %q", err, got, request.code, want)
				}
			})
		}
	}
}

func dialled(t *testing.T, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// reservedIn returns the reserved keys that are visible in a context.
func reservedIn(ctx context.Context) (seen []string) {
	incoming, _ := metadata.FromIncomingContext(ctx)
	for key := range incoming {
		if strings.HasPrefix(key, atmostonce.Prefix) {
			seen = append(seen, key)
		}
	}
	return append(seen, metadata.ValueFromIncomingContext(ctx, atmostonce.CallKey)...)
}

func TestHandlersAndInterceptorsSeeNoReservedMetadata(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	look := func(ctx context.Context) {
		asked.Add(1)
		if seen := reservedIn(ctx); len(seen) > 0 {
			t.Errorf("%v is visible", seen)
		}
		if got := metadata.ValueFromIncomingContext(ctx, "x-own"); len(got) != 1 || got[0] != "1" {
			t.Errorf("the caller's own metadata are %q", got)
		}
	}
	registry := memory.New()
	serve(t, registry, &echo{
		echo: func(ctx context.Context, text string) (string, error) { look(ctx); return text, nil },
		watch: func(stream testv1.EchoService_WatchServer) error {
			look(stream.Context())
			return nil
		},
	}, framework.Authenticate(func(ctx context.Context) (context.Context, error) { look(ctx); return ctx, nil }),
		framework.ServerOptions(
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				look(ctx)
				return handler(ctx, req)
			}),
			grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				if !strings.HasPrefix(info.FullMethod, "/grpc.") {
					look(stream.Context())
				}
				return handler(srv, stream)
			})))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-own", "1")
	for _, shape := range []string{"unary", "server streaming"} {
		t.Run(shape, func(t *testing.T) {
			asked.Store(0)
			if err := everyShape[shape](ctx, bus, &testv1.EchoRequest{}); err != nil || asked.Load() != 3 {
				t.Errorf("%s: %v after %d looks, want 3", shape, err, asked.Load())
			}
		})
	}
}

func TestATrailerThatAHandlerPassesOnIsNotBelievedAsItsServers(t *testing.T) {
	t.Parallel()
	further := memory.New()
	refusing := func(ctx context.Context) error {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-cost", "3"))
		return status.Error(codes.NotFound, "no such thing")
	}
	serve(t, further, &echo{
		echo:  func(ctx context.Context, _ string) (string, error) { return "", refusing(ctx) },
		watch: func(stream testv1.EchoService_WatchServer) error { return refusing(stream.Context()) },
	})
	inner := newBus(t, further)
	ready(t, inner, "test.echo")
	registry := memory.New()
	forged := metadata.Pairs(atmostonce.OutcomeKey, atmostonce.OutcomeRefused, "Onecall-Incarnation", "x")
	serve(t, registry, &echo{
		echo: func(ctx context.Context, text string) (string, error) {
			var header, trailer metadata.MD
			err := everyShape[text](ctx, inner, &testv1.EchoRequest{}, grpc.Trailer(&trailer), grpc.Header(&header))
			if _, reserved := trailer[atmostonce.OutcomeKey]; reserved {
				t.Errorf("a trailer of a bus has %v", trailer)
			}
			_, _ = grpc.SetTrailer(ctx, trailer), grpc.SetHeader(ctx, header)
			return "", err
		},
		watch: func(stream testv1.EchoService_WatchServer) error {
			stream.SetTrailer(forged)
			_, _ = stream.SetHeader(forged), stream.SendHeader(forged)
			return status.Error(codes.NotFound, "no such thing")
		},
		soon: func(ctx context.Context, _ string) (string, error) {
			_ = grpc.SetTrailer(ctx, forged)
			return "", status.Error(codes.NotFound, "no such thing")
		},
	})
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	for _, shape := range []string{"unary", "server streaming"} {
		t.Run(shape, func(t *testing.T) {
			var trailer metadata.MD
			_, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: shape}, grpc.Trailer(&trailer))
			if got := framework.OutcomeOf(err); got != framework.Executed || status.Code(err) != codes.NotFound || len(trailer.Get("x-cost")) != 1 {
				t.Errorf("%s: %q of %v, x-cost %q", shape, got, err, trailer.Get("x-cost"))
			}
		})
	}
	var header, trailer metadata.MD
	err := everyShape["server streaming"](t.Context(), bus, &testv1.WatchRequest{}, grpc.Trailer(&trailer), grpc.Header(&header))
	if got := framework.OutcomeOf(err); got != framework.Executed || len(trailer)+len(header.Get(atmostonce.OutcomeKey)) != 0 {
		t.Errorf("a stream that forges: %q of %v, with %v and %v", got, err, header, trailer)
	}
	// A trailer that is set past the framework cannot be taken back. It is not
	// believed either.
	_, err = client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
	if got := framework.OutcomeOf(err); got == framework.Refused || got == framework.NotSent || status.Code(err) != codes.NotFound {
		t.Errorf("a unary call that forges: %q of %v", got, err)
	}
}

func TestAHandlerMayPassOnWhatItWasCalledWith(t *testing.T) {
	t.Parallel()
	further := memory.New()
	serve(t, further, &echo{})
	inner := newBus(t, further)
	ready(t, inner, "test.echo")
	registry := memory.New()
	serve(t, registry, &echo{echo: func(ctx context.Context, text string) (string, error) {
		incoming, _ := metadata.FromIncomingContext(ctx)
		return text, everyShape[text](metadata.NewOutgoingContext(ctx, incoming), inner, &testv1.EchoRequest{})
	}})
	client, _ := direct(t, registry)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-retry-attempt", "1", "grpc-previous-rpc-attempts", "1")
	for shape := range everyShape {
		t.Run(shape, func(t *testing.T) {
			if _, err := client.Echo(ctx, &testv1.EchoRequest{Text: shape}); err != nil {
				t.Errorf("%s with the marks of an outer retry: %v", shape, err)
			}
		})
	}
}

// without returns EchoService as someone writes it by hand who calls no
// interceptors.
func without(srv func() error) *grpc.ServiceDesc {
	desc := testv1.EchoService_ServiceDesc
	desc.Methods = []grpc.MethodDesc{{
		MethodName: "Echo",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			request := new(testv1.EchoRequest)
			if err := decode(request); err != nil {
				return nil, err
			}
			return &testv1.EchoResponse{}, srv()
		},
	}}
	desc.Streams = nil
	return &desc
}

func TestNoAPIIsServedWithoutAdmission(t *testing.T) {
	t.Parallel()
	for title, own := range map[string]error{"a reply": nil, "an error": status.Error(codes.Aborted, "the handler's own")} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var runs atomic.Int64
			registry, lines := memory.New(), new(testlog.Log)
			serveAny(t, registry, func(apis grpc.ServiceRegistrar) {
				apis.RegisterService(without(func() error { runs.Add(1); return own }), &echo{})
			}, framework.Admission(framework.AdmissionConfig{RequireIdentity: true}), framework.Logger(lines.Logger()))
			_, instance := direct(t, registry)
			conn := dialled(t, instance.Address)
			if err := everyShape["unary"](t.Context(), conn, &testv1.EchoRequest{}); atmostonce.ReasonOf(err) != atmostonce.IdentityRequired {
				t.Errorf("without an identity: %v", err)
			}
			session := atmostonce.NewSession(time.Now())
			call := func(seq uint64) ([]string, error) {
				var trailer metadata.MD
				ctx := identified(t.Context(), atmostonce.Identity{Incarnation: instance.Incarnation, Session: session, Seq: seq})
				err := everyShape["unary"](ctx, conn, &testv1.EchoRequest{}, grpc.Trailer(&trailer))
				return trailer.Get(atmostonce.OutcomeKey), err
			}
			outcome, err := call(1)
			if status.Code(err) != codes.Internal || !slices.Equal(outcome, []string{atmostonce.OutcomeExecuted}) {
				t.Errorf("the first call: %v, %q", err, outcome)
			}
			for range 2 {
				if _, err := call(1); atmostonce.ReasonOf(err) != atmostonce.DuplicateCall || runs.Load() != 1 {
					t.Errorf("a copy: %v, ran %d times", err, runs.Load())
				}
			}
			outcome, err = call(2)
			if !strings.Contains(status.Convert(err).Message(), "does not call the interceptor") || !slices.Equal(outcome, []string{atmostonce.OutcomeRefused}) || runs.Load() != 1 {
				t.Errorf("the next call: %v, %q, ran %d times", err, outcome, runs.Load())
			}
			if got := lines.Count("does not call its interceptor"); got != 1 {
				t.Errorf("the log says so %d times", got)
			}
		})
	}
}

func TestWhoIsNotAuthenticatedTakesNoSessionAndLearnsNoRule(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var runs, intercepted atomic.Int64
	authenticate := func(ctx context.Context) (context.Context, error) {
		token := metadata.ValueFromIncomingContext(ctx, "token")
		if len(token) != 1 {
			return nil, status.Error(codes.Unauthenticated, "who are you?")
		}
		return framework.WithPrincipal(context.WithValue(ctx, tokenKey{}, token[0]), token[0]), nil
	}
	serve(t, registry, &echo{echo: func(ctx context.Context, _ string) (string, error) {
		runs.Add(1)
		token, _ := ctx.Value(tokenKey{}).(string)
		return token, nil
	}}, framework.Authenticate(authenticate),
		framework.Admission(framework.AdmissionConfig{MaxSessionsPerPrincipal: 1, Ledger: broken{}}),
		framework.ServerOptions(grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			intercepted.Add(1)
			return handler(ctx, req)
		})))
	client, instance := direct(t, registry)
	conn := dialled(t, instance.Address)
	fresh := func() context.Context {
		return identified(t.Context(), atmostonce.Identity{Incarnation: instance.Incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1})
	}
	for shape, call := range everyShape {
		t.Run(shape, func(t *testing.T) {
			for range 3 {
				if err := call(fresh(), conn, &testv1.EchoRequest{Text: tooLong}); status.Code(err) != codes.Unauthenticated || len(status.Convert(err).Details()) != 0 {
					t.Errorf("%s without a token: %v", shape, err)
				}
			}
		})
	}
	if err := conn.Invoke(fresh(), "/no.such.Service/Method", &testv1.EchoRequest{}, &testv1.EchoResponse{}); status.Code(err) != codes.Unauthenticated {
		t.Errorf("an unknown method without a token: %v", err)
	}
	if runs.Load()+intercepted.Load() != 0 {
		t.Errorf("handlers ran %d times, interceptors %d times", runs.Load(), intercepted.Load())
	}
	// The ledger is asked now, and fails: the call was admitted before.
	_, err := client.Echo(metadata.AppendToOutgoingContext(fresh(), "token", "ann"), &testv1.EchoRequest{})
	if atmostonce.ReasonOf(err) != atmostonce.LedgerUnavailable {
		t.Errorf("with a token: %v", err)
	}
	_, err = client.Echo(metadata.AppendToOutgoingContext(fresh(), "token", "ann"), &testv1.EchoRequest{})
	if atmostonce.ReasonOf(err) != atmostonce.SessionLimit {
		t.Errorf("a second session of one principal: %v", err)
	}
	_, err = client.Echo(metadata.AppendToOutgoingContext(fresh(), "token", "ben"), &testv1.EchoRequest{})
	if atmostonce.ReasonOf(err) != atmostonce.LedgerUnavailable {
		t.Errorf("a session of another principal of the same host: %v", err)
	}
	if reply, err := client.Echo(metadata.AppendToOutgoingContext(t.Context(), "token", "ann"), &testv1.EchoRequest{}); err != nil || reply.GetText() != "ann" {
		t.Errorf("the handler's context says %q, %v", reply.GetText(), err)
	}
}

type tokenKey struct{}

func TestAnAuthenticationThatLosesTheContextRefusesItsCalls(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var runs atomic.Int64
	serve(t, registry, &echo{echo: counting(&runs)},
		framework.Authenticate(func(context.Context) (context.Context, error) { return context.Background(), nil }))
	client, _ := direct(t, registry)
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "Authenticate") || runs.Load() != 0 {
		t.Errorf("error = %v after %d runs", err, runs.Load())
	}
}

func TestAnInterceptorAfterAdmissionMayReplaceTheContext(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var runs atomic.Int64
	_, pass := saying("")
	serve(t, registry, &echo{echo: counting(&runs)}, framework.AfterAdmission(
		func(_ context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(context.Background(), req)
		}, pass))
	client, _ := direct(t, registry)
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil || runs.Load() != 1 {
		t.Errorf("error = %v after %d runs", err, runs.Load())
	}
}

// seeing returns interceptors that keep the code of each call of test.echo, and
// refuse unary calls without a text.
func seeing(seen *atomic.Value) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if asked, ok := req.(*testv1.EchoRequest); ok && asked.GetText() == "" {
				return nil, status.Error(codes.PermissionDenied, "you may not")
			}
			reply, err := handler(ctx, req)
			seen.Store(status.Code(err))
			return reply, err
		}, func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			err := handler(srv, stream)
			if !strings.HasPrefix(info.FullMethod, "/grpc.") {
				seen.Store(status.Code(err))
			}
			return err
		}
}

func TestInterceptorsAfterAdmissionSeeWhatBecomesOfEachCall(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var after, own atomic.Value
	unary, stream := seeing(&own)
	serve(t, registry, &echo{
		echo: func(_ context.Context, text string) (string, error) {
			if text == "panic" {
				panic("on purpose")
			}
			return tooLong, nil
		},
		watch: func(testv1.EchoService_WatchServer) error { panic("on purpose") },
	}, framework.AfterAdmission(seeing(&after)), framework.ServerOptions(grpc.ChainUnaryInterceptor(unary), grpc.ChainStreamInterceptor(stream)))
	_, instance := direct(t, registry)
	conn := dialled(t, instance.Address)
	const none = codes.Code(99)
	for title, test := range map[string]struct {
		shape, text string
		want        codes.Code
	}{
		"a request that breaks a rule": {"unary", tooLong, codes.InvalidArgument},
		"a panic":                      {"unary", "panic", codes.Internal},
		"a panic of a stream":          {"server streaming", "", codes.Internal},
	} {
		t.Run(title, func(t *testing.T) { //nolint:paralleltest // they share what was seen
			after.Store(none)
			own.Store(none)
			if err := everyShape[test.shape](t.Context(), conn, &testv1.EchoRequest{Text: test.text}); status.Code(err) != test.want || after.Load() != test.want || own.Load() != test.want {
				t.Errorf("the caller has %v, the interceptor after admission %v, the program's own %v", err, after.Load(), own.Load())
			}
		})
	}
	t.Run("a bad request that is not authorized", func(t *testing.T) { //nolint:paralleltest // as above
		if err := everyShape["unary"](t.Context(), conn, &testv1.EchoRequest{}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("its rules were checked before its authorization: %v", err)
		}
	})
}

// passing returns interceptors that note a name and call their handlers.
func passing(note func(string), name string) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			note(name)
			return handler(ctx, req)
		}, func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			if !strings.HasPrefix(info.FullMethod, "/grpc.") {
				note(name)
			}
			return handler(srv, stream)
		}
}

func TestEachPlaceRunsInItsOrderAroundEachShape(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var mu sync.Mutex
	var order []string
	note := func(name string) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, name)
	}
	handler := func(context.Context, string) (string, error) { note("handler"); return "", nil }
	unary, stream := passing(note, "own")
	serve(t, registry, &echo{echo: handler, watch: func(testv1.EchoService_WatchServer) error { note("handler"); return nil }},
		framework.ServerOptions(grpc.ChainUnaryInterceptor(unary), grpc.ChainStreamInterceptor(stream)),
		framework.AfterAdmission(passing(note, "after 1")), framework.AfterAdmission(passing(note, "after 2")),
		framework.BeforeAdmission(passing(note, "before 1")),
		framework.Authenticate(func(ctx context.Context) (context.Context, error) { note("before 2"); return ctx, nil }),
		framework.BeforeAdmission(passing(note, "before 3")),
		framework.Admission(framework.AdmissionConfig{Ledger: noting{note}}))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	want := []string{"before 1", "before 2", "before 3", "admission", "after 1", "after 2", "own", "handler"}
	for _, shape := range []string{"unary", "server streaming"} {
		t.Run(shape, func(t *testing.T) { //nolint:paralleltest // they share the order
			mu.Lock()
			order = nil
			mu.Unlock()
			if err := everyShape[shape](t.Context(), bus, &testv1.EchoRequest{}); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(order, want) {
				t.Errorf("what ran is %q, want %q", order, want)
			}
		})
	}
}

// noting is a ledger that notes admissions.
type noting struct{ note func(string) }

func (l noting) Begin(context.Context, string) (bool, error) { l.note("admission"); return true, nil }

func TestAnInterceptorOfAPlaceIsNotNil(t *testing.T) {
	t.Parallel()
	unary, stream := passing(func(string) {}, "")
	for option, given := range map[string]framework.ServeOption{
		"BeforeAdmission": framework.BeforeAdmission(unary, nil),
		"AfterAdmission":  framework.AfterAdmission(nil, stream),
	} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			if err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, given); err == nil || !strings.Contains(err.Error(), "option "+option+": an interceptor is nil") {
				t.Errorf("Serve = %v", err)
			}
		})
	}
}

func TestAHandlerThatEndsItsGoroutineEndsItsCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		lines := new(testlog.Log)
		bus := busInMemory(t, &echo{
			echo:  func(context.Context, string) (string, error) { runtime.Goexit(); return "", nil },
			watch: func(testv1.EchoService_WatchServer) error { runtime.Goexit(); return nil },
		}, framework.Logger(lines.Logger()))
		begun := time.Now()
		for shape, method := range map[string]string{"unary": "EchoService/Echo", "server streaming": "EchoService/Watch"} {
			const more = 100 // than grpc-go has workers
			for range more {
				err := everyShape[shape](t.Context(), bus, &testv1.EchoRequest{})
				if status.Code(err) != codes.Internal || framework.OutcomeOf(err) != framework.Executed || !strings.Contains(err.Error(), "incident") {
					t.Fatalf("%s: %v", shape, err)
				}
			}
			if lines.Count(method) != more || lines.Count("runtime.Goexit") == 0 {
				t.Errorf("%s: the log names the method %d times", shape, lines.Count(method))
			}
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("the callers waited %v", took)
		}
	})
}

// tagged has a stats handler report the sessions of identified calls, which
// handlers do not see.
type tagged struct{ sessions *[]string }

func (s tagged) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	if identity := metadata.ValueFromIncomingContext(ctx, atmostonce.CallKey); len(identity) == 1 {
		*s.sessions = append(*s.sessions, strings.Split(identity[0], ".")[1])
	}
	return ctx
}
func (tagged) HandleRPC(context.Context, stats.RPCStats)                         {}
func (tagged) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (tagged) HandleConn(context.Context, stats.ConnStats)                       {}
