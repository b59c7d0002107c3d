package framework_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/ledgertest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// direct is a connection of a program that writes identities itself, and the instance to
// which it is connected.
func direct(t *testing.T, registry discovery.Registry) (testv1.EchoServiceClient, discovery.Instance) {
	t.Helper()
	snapshot := discoverytest.Watch(t, registry, "test.echo").Until(t, "an instance", func(s discovery.Snapshot) bool { return len(s.Instances) == 1 })
	conn, err := grpc.NewClient(snapshot.Instances[0].Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return testv1.NewEchoServiceClient(conn), snapshot.Instances[0]
}

// counting is a handler that counts its runs.
func counting(runs *atomic.Int64) func(context.Context, string) (string, error) {
	return func(context.Context, string) (string, error) {
		runs.Add(1)
		return "ran", nil
	}
}

// identified returns the context of a call with an identity.
func identified(ctx context.Context, identity atmostonce.Identity) context.Context {
	return metadata.AppendToOutgoingContext(ctx, atmostonce.CallKey, identity.Value())
}

func TestOfCopiesThatArriveAtOneMomentOneRuns(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var runs atomic.Int64
	serve(t, registry, &echo{soon: counting(&runs)})
	client, instance := direct(t, registry)
	identity := atmostonce.Identity{Incarnation: instance.Incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1}
	var (
		copies  sync.WaitGroup
		replies atomic.Int64
	)
	for range 16 {
		copies.Go(func() {
			_, err := client.EchoSoon(identified(t.Context(), identity), &testv1.EchoSoonRequest{})
			switch {
			case err == nil:
				replies.Add(1)
			case status.Code(err) != codes.FailedPrecondition || atmostonce.ReasonOf(err) != atmostonce.DuplicateCall:
				t.Errorf("a copy = %v, want FAILED_PRECONDITION because of DUPLICATE_CALL", err)
			}
		})
	}
	copies.Wait()
	if runs.Load() != 1 || replies.Load() != 1 {
		t.Errorf("of 16 copies %d ran and %d were answered, want one", runs.Load(), replies.Load())
	}
}

func TestAServiceRefusesWhatIsNotForItOrMakesNoSense(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var runs atomic.Int64
	serve(t, registry, &echo{echo: counting(&runs)}, framework.Admission(framework.AdmissionConfig{RequireIdentity: true}))
	client, instance := direct(t, registry)
	fresh := func(incarnation discovery.Incarnation) context.Context {
		return identified(t.Context(), atmostonce.Identity{Incarnation: incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1})
	}
	twice := fresh(instance.Incarnation)
	for reason, test := range map[atmostonce.Reason]struct {
		ctx  context.Context
		code codes.Code
	}{
		atmostonce.WrongInstance:     {fresh(discovery.NewIncarnation()), codes.FailedPrecondition},
		atmostonce.IdentityRequired:  {t.Context(), codes.FailedPrecondition},
		atmostonce.MalformedIdentity: {metadata.AppendToOutgoingContext(twice, atmostonce.CallKey, "second"), codes.InvalidArgument},
		atmostonce.SessionExpired: {identified(t.Context(), atmostonce.Identity{
			Incarnation: instance.Incarnation, Session: atmostonce.NewSession(time.Now().Add(-48 * time.Hour)), Seq: 1,
		}), codes.FailedPrecondition},
	} {
		t.Run(string(reason), func(t *testing.T) {
			_, err := client.Echo(test.ctx, &testv1.EchoRequest{})
			if status.Code(err) != test.code || atmostonce.ReasonOf(err) != reason {
				t.Errorf("a unary call = %v, want %v because of %s", err, test.code, reason)
			}
			stream, err := client.Chat(test.ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = stream.Recv(); status.Code(err) != test.code || atmostonce.ReasonOf(err) != reason {
				t.Errorf("a stream = %v, want %v because of %s", err, test.code, reason)
			}
		})
	}
	if runs.Load() != 0 {
		t.Errorf("%d calls that were refused ran", runs.Load())
	}
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil || runs.Load() != 1 {
		t.Errorf("a call on a bus = %v after %d runs", err, runs.Load())
	}
}

func TestAnErrorSaysWhetherItsHandlerRan(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{
		soon: func(_ context.Context, text string) (string, error) {
			if text == "panic" {
				panic(text)
			}
			return "", status.Error(codes.Aborted, "the handler's own")
		},
		watch: func(testv1.EchoService_WatchServer) error { return errors.New("the handler's own") },
	}, framework.ServerOptions(grpc.ChainUnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if soon, ok := req.(*testv1.EchoSoonRequest); ok && soon.GetText() == "forbidden" {
				return nil, status.Error(codes.PermissionDenied, "not for you")
			}
			return handler(ctx, req)
		}), grpc.MaxSendMsgSize(1000), grpc.MaxRecvMsgSize(2000)))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	soon := func(text string) func() error {
		return func() error {
			_, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: text})
			return err
		}
	}
	for name, test := range map[string]struct {
		call func() error
		code codes.Code
		want framework.Outcome
	}{
		"a handler's error":                         {soon(""), codes.Aborted, framework.Executed},
		"a handler's panic":                         {soon("panic"), codes.Internal, framework.Executed},
		"an interceptor's error before the handler": {soon("forbidden"), codes.PermissionDenied, framework.Refused},
		"a stream's error": {func() error {
			stream, err := client.Watch(t.Context(), &testv1.WatchRequest{})
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		}, codes.Internal, framework.Executed},
		"a call that its caller ends": {func() error {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := client.EchoSoon(ctx, &testv1.EchoSoonRequest{})
			return err
		}, codes.Canceled, framework.NotSent},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.call(); status.Code(err) != test.code || framework.OutcomeOf(err) != test.want {
				t.Errorf("%s = %v, whose outcome is %v, want %v", name, err, framework.OutcomeOf(err), test.want)
			}
		})
	}

	// If a reply is too large, the outcome is executed or unknown.
	long := strings.Repeat("x", 1500)
	_, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: long})
	if got := framework.OutcomeOf(err); status.Code(err) != codes.ResourceExhausted || got != framework.Executed && got != framework.Unknown {
		t.Errorf("a reply over the server's limit = %v, whose outcome is %v", err, got)
	}
	_, err = client.Echo(t.Context(), &testv1.EchoRequest{Text: "longer than nothing"}, grpc.MaxCallRecvMsgSize(5))
	if got := framework.OutcomeOf(err); status.Code(err) != codes.ResourceExhausted || got != framework.Executed && got != framework.Unknown {
		t.Errorf("a reply over the caller's limit = %v, whose outcome is %v", err, got)
	}
	_, err = client.Echo(t.Context(), &testv1.EchoRequest{Text: strings.Repeat("x", 3000)})
	if got := framework.OutcomeOf(err); status.Code(err) != codes.ResourceExhausted || got == framework.Executed {
		t.Errorf("a request over the server's limit = %v, whose outcome is %v", err, got)
	}
}

func TestWhenAServerEndsInTheMiddleOfACallTheNextGoesElsewhere(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	begun, end := make(chan struct{}, 2), make(chan struct{})
	t.Cleanup(func() { close(end) })
	var runs atomic.Int64
	slow := &echo{soon: func(_ context.Context, text string) (string, error) {
		if text == "slow" {
			runs.Add(1)
			begun <- struct{}{}
			<-end
		}
		return text, nil
	}}
	first := serve(t, registry, slow, framework.ShutdownTimeout(300*time.Millisecond))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	client := testv1.NewEchoServiceClient(bus)
	call := framework.CallAsync(t.Context(), client.EchoSoon, &testv1.EchoSoonRequest{Text: "slow"})
	<-begun
	serve(t, registry, slow)
	serving(t, registry, 2)
	if err := first.stop(); err == nil {
		t.Error("a server that cut off a call returned no error")
	}
	if _, err := call.Await(t.Context()); framework.OutcomeOf(err) != framework.Unknown || runs.Load() != 1 {
		t.Errorf("the call that was cut off = %v after %d runs, want one and an unknown outcome", err, runs.Load())
	}
	if reply, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: "next"}); err != nil || reply.GetText() != "next" {
		t.Errorf("the next call = %v, %v", reply, err)
	}
}

func TestInstancesWithALedgerServeWhatAProxyPicksThemForOnce(t *testing.T) {
	t.Parallel()
	var (
		runs      atomic.Int64
		shared    = new(ledgertest.Memory)
		handle    = &echo{soon: counting(&runs)}
		clients   []testv1.EchoServiceClient
		instances []discovery.Instance
	)
	for range 2 {
		registry := memory.New()
		serve(t, registry, handle, framework.Admission(framework.AdmissionConfig{Ledger: shared}))
		client, instance := direct(t, registry)
		clients, instances = append(clients, client), append(instances, instance)
	}
	session := atmostonce.NewSession(time.Now())
	identities := []atmostonce.Identity{
		{Incarnation: instances[0].Incarnation, Session: session, Seq: 1},
		{Incarnation: instances[1].Incarnation, Session: session, Seq: 1},
		{Incarnation: discovery.NewIncarnation(), Session: session, Seq: 1}, // of an instance that has ended
	}
	for i, identity := range identities {
		var copies sync.WaitGroup
		for j := range 8 {
			copies.Go(func() {
				_, err := clients[j%2].EchoSoon(identified(t.Context(), identity), &testv1.EchoSoonRequest{})
				if err != nil && atmostonce.ReasonOf(err) != atmostonce.DuplicateCall {
					t.Errorf("a copy = %v, want a reply or DUPLICATE_CALL", err)
				}
			})
		}
		copies.Wait()
		if got := runs.Load(); got != int64(i+1) {
			t.Errorf("%d calls ran %d times", i+1, got)
		}
	}
}

// broken is a ledger that is unavailable.
type broken struct{}

func (broken) Begin(context.Context, string) (bool, error) {
	return false, errors.New("etcd at http://10.0.0.9:2379 is away")
}

func TestWithoutItsLedgerAServiceRefuses(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var runs atomic.Int64
	serve(t, registry, &echo{echo: counting(&runs)}, framework.Admission(framework.AdmissionConfig{Ledger: broken{}}))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
	if atmostonce.ReasonOf(err) != atmostonce.LedgerUnavailable || framework.OutcomeOf(err) != framework.Unknown ||
		runs.Load() != 0 || strings.Contains(err.Error(), "10.0.0.9") {
		t.Errorf("the call = %v after %d runs, want a refusal that tells nothing of the ledger", err, runs.Load())
	}
}

func TestSessionsAreLimited(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{}, framework.Admission(framework.AdmissionConfig{MaxSessionsPerPrincipal: 2, MaxSessions: 5}))
	client, instance := direct(t, registry)
	for i := range 3 {
		_, err := client.Echo(identified(t.Context(), atmostonce.Identity{
			Incarnation: instance.Incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1,
		}), &testv1.EchoRequest{})
		if over := atmostonce.ReasonOf(err) == atmostonce.SessionLimit; over != (i == 2) {
			t.Errorf("session %d of one host = %v", i+1, err)
		}
	}
	for _, bad := range []framework.AdmissionConfig{{MaxSessionsPerPrincipal: -1}, {MaxSessions: -1}, {MaxSessionsPerPrincipal: 2, MaxSessions: 1}} {
		t.Run(fmt.Sprintf("%+v", bad), func(t *testing.T) {
			err := framework.Serve(t.Context(), registry, (&echo{}).register, framework.Admission(bad))
			if err == nil || !strings.Contains(err.Error(), "option Admission: MaxSessions") {
				t.Errorf("Serve with %+v = %v", bad, err)
			}
		})
	}
}
