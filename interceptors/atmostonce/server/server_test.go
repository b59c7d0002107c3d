package server_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/internal/malformed"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/internal/grpctest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// echo is the service. It counts its handlers, which do what the test sets.
type echo struct {
	testv1.UnimplementedEchoServiceServer

	runs atomic.Int64
	do   func(ctx context.Context) error // before the reply; nil does nothing
	text string                          // the reply's
}

func (e *echo) run(ctx context.Context) error {
	e.runs.Add(1)
	if e.do != nil {
		return e.do(ctx)
	}
	return nil
}

func (e *echo) Echo(ctx context.Context, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Text: e.text}, e.run(ctx)
}

func (e *echo) Chat(stream testv1.EchoService_ChatServer) error {
	if err := e.run(stream.Context()); err != nil {
		return err
	}
	return stream.Send(&testv1.ChatResponse{Text: e.text})
}

// inner is what runs between admission and handler.
type inner struct {
	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
	// uninstrumented leaves out Instrument.
	uninstrumented bool
}

// fixture is a service behind a server's half, and a caller without any half.
type fixture struct {
	t           *testing.T
	server      *server.Server
	incarnation discovery.Incarnation
	echo        *echo
	conn        *grpc.ClientConn
}

func serve(t *testing.T, config server.Config, e *echo, within inner, options ...grpc.ServerOption) *fixture {
	t.Helper()
	if config.Incarnation.IsZero() {
		config.Incarnation = discovery.NewIncarnation()
	}
	if config.Exempt == nil {
		config.Exempt = func(service string) bool { return service == grpc_health_v1.Health_ServiceDesc.ServiceName }
	}
	guard, err := server.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(guard.Close)
	unary := []grpc.UnaryServerInterceptor{recoverUnary, guard.UnaryServerInterceptor()}
	stream := []grpc.StreamServerInterceptor{recoverStream, guard.StreamServerInterceptor()}
	if within.unary != nil {
		unary = append(unary, within.unary)
	}
	if within.stream != nil {
		stream = append(stream, within.stream)
	}
	grpcServer := grpc.NewServer(append(options, grpc.ChainUnaryInterceptor(unary...), grpc.ChainStreamInterceptor(stream...))...)
	desc := &testv1.EchoService_ServiceDesc
	if !within.uninstrumented {
		desc = guard.Instrument(desc)
	}
	grpcServer.RegisterService(desc, e)
	grpc_health_v1.RegisterHealthServer(grpcServer, health.NewServer())
	grpcServer.RegisterService(guard.Calls(), nil)
	return &fixture{t: t, server: guard, incarnation: config.Incarnation, echo: e, conn: grpctest.Memory(t, grpcServer)}
}

func recoverUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = status.Error(codes.Internal, "recovered")
		}
	}()
	return handler(ctx, req)
}

func recoverStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			err = status.Error(codes.Internal, "recovered")
		}
	}()
	return handler(srv, stream)
}

// identity returns an identity that the server accepts.
func (f *fixture) identity(seq uint64) atmostonce.Identity {
	return atmostonce.Identity{Incarnation: f.incarnation, Session: atmostonce.NewSession(time.Now()), Seq: seq}
}

// shapes calls in each of the two shapes.
var shapes = map[string]func(f *fixture, values ...string) (metadata.MD, error){
	"unary":  (*fixture).unary,
	"stream": (*fixture).stream,
}

func identified(ctx context.Context, values []string) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.MD{atmostonce.CallKey: values})
}

// unary calls Echo with values as the identity, and returns the error and the
// trailer.
func (f *fixture) unary(values ...string) (metadata.MD, error) {
	var trailer metadata.MD
	_, err := testv1.NewEchoServiceClient(f.conn).Echo(identified(f.t.Context(), values), &testv1.EchoRequest{}, grpc.Trailer(&trailer))
	return trailer, err
}

// stream calls Chat likewise.
func (f *fixture) stream(values ...string) (metadata.MD, error) {
	stream, err := testv1.NewEchoServiceClient(f.conn).Chat(identified(f.t.Context(), values))
	if err != nil {
		return nil, err
	}
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return stream.Trailer(), err
}

// wantTrailer fails unless the trailer has the outcome ("" is none) and the instance.
func (f *fixture) wantTrailer(t *testing.T, trailer metadata.MD, outcome string) {
	t.Helper()
	want := []string{outcome}
	if outcome == "" {
		want = nil
	}
	if got := trailer[atmostonce.OutcomeKey]; !slices.Equal(got, want) {
		t.Errorf("the trailer says %q, want %q", got, want)
	}
	if got := trailer[atmostonce.IncarnationKey]; !slices.Equal(got, []string{f.incarnation.String()}) {
		t.Errorf("the trailer's incarnation is %q, want %v", got, f.incarnation)
	}
}

func (f *fixture) wantRefusal(t *testing.T, err error, trailer metadata.MD, reason atmostonce.Reason, outcome string) {
	t.Helper()
	code := codes.FailedPrecondition
	if reason == atmostonce.MalformedIdentity {
		code = codes.InvalidArgument
	}
	if atmostonce.ReasonOf(err) != reason || status.Code(err) != code {
		t.Fatalf("error = %v (%q), want %v for %q", err, atmostonce.ReasonOf(err), code, reason)
	}
	f.wantTrailer(t, trailer, outcome)
}

func (f *fixture) wantRuns(t *testing.T, want int64) {
	t.Helper()
	if got := f.echo.runs.Load(); got != want {
		t.Errorf("the handler ran %d times, want %d", got, want)
	}
}

// eachShape runs a test for a unary call and for a stream.
func eachShape(t *testing.T, test func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error))) {
	t.Helper()
	for title, call := range shapes {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			test(t, call)
		})
	}
}

func TestAnAdmittedCallRunsOnceAndItsCopiesAreRefused(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		f := serve(t, server.Config{}, &echo{}, inner{})
		value := f.identity(1).Value()
		if trailer, err := call(f, value); err != nil || trailer.Len() != 0 {
			t.Fatalf("error, trailer = %v, %v; want a success that says nothing more", err, trailer)
		}
		for range 3 {
			trailer, err := call(f, value)
			f.wantRefusal(t, err, trailer, atmostonce.DuplicateCall, "")
		}
		f.wantRuns(t, 1)
		stats := f.server.Stats()
		if stats.Sessions != 1 || stats.Admitted != 1 || stats.Refused[atmostonce.DuplicateCall] != 3 || stats.WithoutIdentity != 0 {
			t.Errorf("Stats = %+v", stats)
		}
	})
}

func TestOneOfManyCopiesOnTheWireRuns(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		f := serve(t, server.Config{}, &echo{}, inner{})
		identity := f.identity(0)
		for range 20 {
			var served atomic.Int64
			var group sync.WaitGroup
			identity.Seq++
			value := identity.Value()
			for range 16 {
				group.Go(func() {
					trailer, err := call(f, value)
					if err == nil {
						served.Add(1)
					} else if atmostonce.ReasonOf(err) != atmostonce.DuplicateCall || len(trailer[atmostonce.OutcomeKey]) != 0 {
						t.Errorf("error, trailer = %v, %v", err, trailer)
					}
				})
			}
			group.Wait()
			if served.Load() != 1 {
				t.Errorf("%d copies were served", served.Load())
			}
		}
		f.wantRuns(t, 20)
	})
}

func TestACopyOfAnyAgeIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := serve(t, server.Config{}, &echo{}, inner{})
		value := f.identity(1).Value()
		if _, err := f.unary(value); err != nil {
			t.Fatal(err)
		}
		for _, age := range []time.Duration{10 * time.Minute, time.Hour, 23 * time.Hour} {
			time.Sleep(age)
			trailer, err := f.unary(value)
			f.wantRefusal(t, err, trailer, atmostonce.DuplicateCall, "")
		}
		if stats := f.server.Stats(); stats.Sessions != 1 || stats.Collapsed != 1 {
			t.Errorf("Stats = %+v, want a session that is collapsed", stats)
		}
		time.Sleep(13 * time.Hour) // 37 h after it was opened
		if stats := f.server.Stats(); stats.Sessions != 0 {
			t.Errorf("Stats = %+v, want the session to be forgotten", stats)
		}
		trailer, err := f.unary(value)
		f.wantRefusal(t, err, trailer, atmostonce.SessionExpired, "") // it did run
		f.wantRuns(t, 1)
		if _, err := f.unary(f.identity(1).Value()); err != nil {
			t.Errorf("under a new session: %v", err)
		}
		f.wantRuns(t, 2)
	})
}

func TestMalformedIdentitiesAreRefusedBeforeAnyState(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		f := serve(t, server.Config{}, &echo{}, inner{})
		for title, values := range malformed.Identities(f.incarnation.String()) {
			t.Run(title, func(t *testing.T) {
				refused := f.server.Stats().Refused[atmostonce.MalformedIdentity]
				trailer, err := call(f, values...)
				// HTTP/2 takes no control characters: grpc-go refuses those itself.
				// It also removes the space around a value, depending on its sender.
				if strings.ContainsFunc(values[0], func(r rune) bool { return r < ' ' || r > '~' }) {
					if err == nil {
						t.Error("it was served")
					}
					return
				}
				f.wantRefusal(t, err, trailer, atmostonce.MalformedIdentity, "")
				if got := f.server.Stats().Refused[atmostonce.MalformedIdentity]; got != refused+1 {
					t.Errorf("%d were counted, want %d", got, refused+1)
				}
				if strings.Contains(err.Error(), malformed.Session) {
					t.Errorf("the error shows the session: %v", err)
				}
			})
		}
		f.wantRuns(t, 0)
		if stats := f.server.Stats(); stats.Sessions != 0 || stats.Admitted != 0 || stats.WithoutIdentity != 0 {
			t.Errorf("Stats = %+v, want no state", stats)
		}
	})
}

func TestRefusalsNameTheReasonAndTheInstance(t *testing.T) {
	t.Parallel()
	full := server.Config{MaxSessionsPerPrincipal: 1}
	tests := map[string]struct {
		config  server.Config
		change  func(f *fixture, identity *atmostonce.Identity)
		reason  atmostonce.Reason
		outcome string
		says    string
	}{
		"another instance's call": {
			change: func(_ *fixture, identity *atmostonce.Identity) { identity.Incarnation = discovery.NewIncarnation() },
			reason: atmostonce.WrongInstance, says: "the first one has ended, or a proxy chose another one",
		},
		"a principal with all its sessions": {
			config: full,
			change: func(f *fixture, _ *atmostonce.Identity) { f.unary(f.identity(1).Value()) },
			reason: atmostonce.SessionLimit, says: "MaxSessionsPerPrincipal",
		},
		"a server with all its sessions": {
			config: server.Config{MaxSessions: 1},
			change: func(f *fixture, _ *atmostonce.Identity) { f.unary(f.identity(1).Value()) },
			reason: atmostonce.SessionLimit, says: "(MaxSessions)",
		},
		"a caller's clock two days behind": {
			change: func(_ *fixture, identity *atmostonce.Identity) {
				identity.Session = atmostonce.NewSession(time.Now().Add(-48 * time.Hour))
			},
			reason: atmostonce.SessionExpired, outcome: atmostonce.OutcomeRefused,
			says: "48h0m0s behind this server's: if the clocks are right, retry the call in a new session; if the caller's clock is more than 36h0m0s behind, set it",
		},
		"a session below one that was refused for its age": {
			change: func(f *fixture, identity *atmostonce.Identity) {
				identity.Session = atmostonce.NewSession(time.Now().Add(-48 * time.Hour))
				f.unary(identity.Value())
			},
			reason: atmostonce.SessionExpired, says: "in a new session",
		},
		"a caller's clock two days ahead": {
			change: func(_ *fixture, identity *atmostonce.Identity) {
				identity.Session = atmostonce.NewSession(time.Now().Add(48 * time.Hour))
			},
			reason: atmostonce.SessionAhead, says: "48h0m0s ahead of this server's, which is more than 36h0m0s: set the clock of the caller or of the server",
		},
		"a number below its session's window": {
			change: func(f *fixture, identity *atmostonce.Identity) {
				last := *identity
				last.Seq = 8193
				f.unary(last.Value())
			},
			reason: atmostonce.LateCall, says: "came too late",
		},
		"an instance that drains": {
			change: func(f *fixture, _ *atmostonce.Identity) { f.server.Drain() },
			reason: atmostonce.Draining, outcome: atmostonce.OutcomeRefused, says: "draining",
		},
		"a copy to an instance that drains": {
			change: func(f *fixture, identity *atmostonce.Identity) {
				f.unary(identity.Value())
				f.echo.runs.Store(0)
				f.server.Drain()
			},
			reason: atmostonce.DuplicateCall, says: "has seen the call before",
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
				t.Helper()
				synctest.Test(t, func(t *testing.T) {
					f := serve(t, test.config, &echo{}, inner{})
					identity := f.identity(1)
					test.change(f, &identity)
					ran := f.echo.runs.Load()
					trailer, err := call(f, identity.Value())
					f.wantRefusal(t, err, trailer, test.reason, test.outcome)
					if !strings.Contains(err.Error(), test.says) {
						t.Errorf("%v does not say %q", err, test.says)
					}
					if f.server.Stats().Refused[test.reason] == 0 {
						t.Error("it was not counted")
					}
					if test.outcome == atmostonce.OutcomeRefused { // so no copy of it ever runs
						if _, err := call(f, identity.Value()); err == nil {
							t.Error("a copy of it was served")
						}
					}
					f.wantRuns(t, ran)
				})
			})
		})
	}
}

func TestAnErrorReplySaysWhetherTheHandlerRan(t *testing.T) {
	t.Parallel()
	denied := status.Error(codes.PermissionDenied, "not you")
	before := inner{ // refuses
		unary:  func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return nil, denied },
		stream: func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error { return denied },
	}
	panics := inner{
		unary:  func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { panic("before") },
		stream: func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error { panic("before") },
	}
	after := inner{ // fails when the handler has succeeded
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			_, _ = handler(ctx, req)
			return nil, denied
		},
		stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			_ = handler(srv, stream)
			return denied
		},
	}
	tests := map[string]struct {
		do      func(context.Context) error
		within  inner
		code    codes.Code
		outcome string
		runs    int64
	}{
		"the handler's error":                {do: func(context.Context) error { return denied }, code: codes.PermissionDenied, outcome: atmostonce.OutcomeExecuted, runs: 1},
		"the handler's error without a code": {do: func(context.Context) error { return errors.New("no") }, code: codes.Unknown, outcome: atmostonce.OutcomeExecuted, runs: 1},
		"the handler's panic":                {do: func(context.Context) error { panic("handler") }, code: codes.Internal, outcome: atmostonce.OutcomeExecuted, runs: 1},
		"an error after the handler":         {within: after, code: codes.PermissionDenied, outcome: atmostonce.OutcomeExecuted, runs: 1},
		"an error before the handler":        {within: before, code: codes.PermissionDenied, outcome: atmostonce.OutcomeRefused},
		"a panic before the handler":         {within: panics, code: codes.Internal, outcome: atmostonce.OutcomeRefused},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
				t.Helper()
				f := serve(t, server.Config{}, &echo{do: test.do}, test.within)
				value := f.identity(1).Value()
				trailer, err := call(f, value)
				if status.Code(err) != test.code {
					t.Fatalf("error = %v, want %v", err, test.code)
				}
				f.wantTrailer(t, trailer, test.outcome)
				f.wantRuns(t, test.runs)
				trailer, err = call(f, value) // marked, whatever its result
				f.wantRefusal(t, err, trailer, atmostonce.DuplicateCall, "")

				if trailer, err = call(f); status.Code(err) != test.code || trailer[atmostonce.OutcomeKey] != nil || trailer[atmostonce.IncarnationKey] != nil {
					t.Errorf("without an identity: error, trailer = %v, %v", err, trailer)
				}
			})
		})
	}
}

// TestAHandlerDoesNotStartOnceTheCallerReadThatItDidNot has an interceptor
// that runs handlers in goroutines, does not wait for them and lets them start later.
func TestAHandlerDoesNotStartOnceTheCallerReadThatItDidNot(t *testing.T) {
	t.Parallel()
	gaveUp := status.Error(codes.ResourceExhausted, "waited too long")
	release, late := make(chan struct{}), make(chan error, 2)
	f := serve(t, server.Config{}, &echo{}, inner{
		unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			go func() {
				<-release
				_, err := handler(ctx, req)
				late <- err
			}()
			return nil, gaveUp
		},
		stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			go func() {
				<-release
				late <- handler(srv, stream)
			}()
			return gaveUp
		},
	})
	for _, call := range shapes {
		trailer, err := call(f, f.identity(1).Value())
		if status.Code(err) != codes.ResourceExhausted {
			t.Fatal(err)
		}
		f.wantTrailer(t, trailer, atmostonce.OutcomeRefused)
	}
	close(release)
	for range shapes {
		if err := <-late; status.Code(err) != codes.Canceled {
			t.Errorf("the late handler's error = %v", err)
		}
	}
	f.wantRuns(t, 0)
}

func TestAHandlerStartsOnceHoweverOftenAnInterceptorCallsIt(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		f := serve(t, server.Config{}, &echo{do: func(context.Context) error { return errors.New("once more") }}, inner{
			unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				_, _ = handler(ctx, req)
				return handler(ctx, req)
			},
			stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				_ = handler(srv, stream)
				return handler(srv, stream)
			},
		})
		trailer, err := call(f, f.identity(1).Value())
		f.wantRefusal(t, err, trailer, atmostonce.DuplicateCall, atmostonce.OutcomeExecuted)
		f.wantRuns(t, 1)
	})
}

type strayStream struct{ grpc.ServerStream }

func (strayStream) Context() context.Context { return context.Background() }

func TestAnInterceptorThatReplacesTheContextDoesNotMakeAnOutcomeFalse(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{}, &echo{do: func(context.Context) error { return errors.New("no") }}, inner{
		unary: func(_ context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(context.Background(), req)
		},
		stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, strayStream{stream})
		},
	})
	trailer, _ := f.unary(f.identity(1).Value())
	f.wantTrailer(t, trailer, atmostonce.OutcomeExecuted)
	f.wantRuns(t, 1)
	trailer, err := f.stream(f.identity(1).Value())
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "an interceptor replaced it") {
		t.Errorf("error = %v", err)
	}
	f.wantTrailer(t, trailer, atmostonce.OutcomeRefused)
	f.wantRuns(t, 1)
}

func TestWithoutInstrumentNoTrailerSaysWhatBecameOfTheHandler(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		f := serve(t, server.Config{}, &echo{do: func(context.Context) error { return errors.New("no") }}, inner{uninstrumented: true})
		value := f.identity(1).Value()
		trailer, _ := call(f, value)
		f.wantTrailer(t, trailer, "")
		trailer, err := call(f, value)
		f.wantRefusal(t, err, trailer, atmostonce.DuplicateCall, "")
		f.wantRuns(t, 1)
		f.server.Drain()
		trailer, err = call(f, f.identity(1).Value())
		f.wantRefusal(t, err, trailer, atmostonce.Draining, atmostonce.OutcomeRefused)
	})
}

func TestAReplyOverTheLimitOfSizeIsNeverReportedAsRefused(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		for title, options := range map[string][]grpc.ServerOption{
			"the server's": {grpc.MaxSendMsgSize(100)},
			"the caller's": nil,
		} {
			t.Run(title, func(t *testing.T) {
				text := strings.Repeat("x", 200)
				if options == nil {
					text = strings.Repeat("x", 5<<20) // grpc-go's default is 4 MiB
				}
				f := serve(t, server.Config{}, &echo{text: text}, inner{}, options...)
				trailer, err := call(f, f.identity(1).Value())
				if status.Code(err) != codes.ResourceExhausted {
					t.Fatalf("error = %v", err)
				}
				if slices.Contains(trailer[atmostonce.OutcomeKey], atmostonce.OutcomeRefused) {
					t.Errorf("trailer = %v", trailer)
				}
				f.wantRuns(t, 1)
			})
		}
	})
}

func TestCallsWithoutAnIdentity(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		served := serve(t, server.Config{}, &echo{}, inner{})
		for range 3 {
			if trailer, err := call(served); err != nil || trailer.Len() != 0 {
				t.Errorf("error, trailer = %v, %v", err, trailer)
			}
		}
		served.wantRuns(t, 3)
		if stats := served.server.Stats(); stats.WithoutIdentity != 3 || stats.Admitted != 0 || stats.Sessions != 0 {
			t.Errorf("Stats = %+v", stats)
		}
		demanded := serve(t, server.Config{RequireIdentity: true}, &echo{}, inner{})
		trailer, err := call(demanded)
		demanded.wantRefusal(t, err, trailer, atmostonce.IdentityRequired, "")
		demanded.wantRuns(t, 0)
		if _, err := call(demanded, demanded.identity(1).Value()); err != nil {
			t.Error(err)
		}
	})
}

func TestExemptServicesAreServedWhateverTheIdentity(t *testing.T) {
	t.Parallel()
	f := serve(t, server.Config{RequireIdentity: true}, &echo{}, inner{})
	f.server.Drain()
	client := grpc_health_v1.NewHealthClient(f.conn)
	for name, values := range map[string][]string{"no identity": nil, "an empty identity": {""}, "two identities": {"a", "b"}} {
		t.Run(name, func(t *testing.T) {
			if _, err := client.Check(identified(t.Context(), values), &grpc_health_v1.HealthCheckRequest{}); err != nil {
				t.Errorf("Check: %v", err)
			}
			watch, err := client.Watch(identified(t.Context(), values), &grpc_health_v1.HealthCheckRequest{})
			if err == nil {
				_, err = watch.Recv()
			}
			if err != nil {
				t.Errorf("Watch: %v", err)
			}
		})
	}
	if _, err := f.unary(); atmostonce.ReasonOf(err) != atmostonce.IdentityRequired {
		t.Errorf("another service's error = %v", err)
	}
}

func TestAnExemptServiceMayBeInstrumented(t *testing.T) {
	t.Parallel()
	eachShape(t, func(t *testing.T, call func(f *fixture, values ...string) (metadata.MD, error)) {
		t.Helper()
		f := serve(t, server.Config{Exempt: func(string) bool { return true }}, &echo{}, inner{})
		for range 2 {
			if _, err := call(f, "nonsense"); err != nil {
				t.Error(err)
			}
		}
		f.wantRuns(t, 2)
	})
}

func TestABadServerConfigIsAnErrorThatNamesTheField(t *testing.T) {
	t.Parallel()
	for field, config := range map[string]server.Config{
		"Incarnation":             {},
		"MaxSessionsPerPrincipal": {Incarnation: discovery.NewIncarnation(), MaxSessionsPerPrincipal: -1},
		"MaxSessions":             {Incarnation: discovery.NewIncarnation(), MaxSessions: -1},
		"MaxSessions is 9, and MaxSessionsPerPrincipal 10": {Incarnation: discovery.NewIncarnation(), MaxSessionsPerPrincipal: 10, MaxSessions: 9},
		"MaxKept":           {Incarnation: discovery.NewIncarnation(), MaxKept: -1},
		"MaxKeptPerSession": {Incarnation: discovery.NewIncarnation(), MaxKeptPerSession: -1},
		"KeepLost":          {Incarnation: discovery.NewIncarnation(), KeepLost: -time.Second},
	} {
		t.Run(field, func(t *testing.T) {
			if guard, err := server.New(config); err == nil || guard != nil || !strings.Contains(err.Error(), field) {
				t.Errorf("New without a good %s: %v", field, err)
			}
		})
	}
}

func TestCloseEndsTheServersGoroutine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // which fails when one is left
		guard, err := server.New(server.Config{Incarnation: discovery.NewIncarnation()})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		guard.Close()
		guard.Close()
	})
}

func TestInstrumentLeavesTheDescriptionAlone(t *testing.T) {
	t.Parallel()
	guard, err := server.New(server.Config{Incarnation: discovery.NewIncarnation()})
	if err != nil {
		t.Fatal(err)
	}
	defer guard.Close()
	own := func(_ any, ctx context.Context, _ func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		return interceptor(ctx, nil, nil, func(context.Context, any) (any, error) { return "own", nil })
	}
	desc := &grpc.ServiceDesc{
		ServiceName: "a.B", Metadata: "a.proto",
		Methods: []grpc.MethodDesc{{MethodName: "C", Handler: own}},
		Streams: []grpc.StreamDesc{{StreamName: "D", ClientStreams: true, Handler: func(any, grpc.ServerStream) error { return nil }}},
	}
	instrumented := guard.Instrument(desc)
	if instrumented == desc || instrumented.ServiceName != "a.B" || instrumented.Metadata != "a.proto" || instrumented.Methods[0].MethodName != "C" || !instrumented.Streams[0].ClientStreams {
		t.Errorf("Instrument = %+v", instrumented)
	}
	if reply, _ := instrumented.Methods[0].Handler(nil, t.Context(), nil, nil); reply != "own" {
		t.Errorf("without interceptors the handler returned %v", reply)
	}
	if err := desc.Streams[0].Handler(nil, strayStream{}); err != nil {
		t.Errorf("the original's handler was replaced: %v", err)
	}
}
