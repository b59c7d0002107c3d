package framework_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	"github.com/onecall-dev/onecall/telemetry"
)

// byName authenticates by the name that a call itself says.
var byName = framework.Authenticate(func(ctx context.Context) (context.Context, error) {
	if names := metadata.ValueFromIncomingContext(ctx, "name"); len(names) == 1 {
		ctx = framework.WithPrincipal(ctx, names[0])
	}
	return ctx, nil
})

// as returns the context of a call of a program.
func as(t *testing.T, name string) context.Context {
	t.Helper()
	if name == "" {
		return t.Context()
	}
	return metadata.AppendToOutgoingContext(t.Context(), "name", name)
}

// ran counts the handlers of test.echo that ran.
func ran(runs *atomic.Int64) *echo {
	return &echo{
		echo: counting(runs), soon: counting(runs), ping: counting(runs),
		watch: func(testv1.EchoService_WatchServer) error { runs.Add(1); return nil },
	}
}

func TestThePolicySaysWhoMayCallWhat(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	var events recorder
	registry := memory.New()
	serve(t, registry, ran(&runs), byName, framework.Observe(&events), framework.Authorize(framework.Policy{
		"test.echo":                         {"shop", "spiffe://example.org/mail"},
		"test.echo.watch":                   {"admin"},
		"test.echo.chat":                    {},
		"onecall.test.v1.PlainService.ping": {"*"},
	}))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo", "onecall.test.v1.PlainService")
	calls := map[string]func(context.Context) error{
		"echo": func(ctx context.Context) error { return everyShape["unary"](ctx, bus, &testv1.EchoRequest{}) },
		"watch": func(ctx context.Context) error {
			return everyShape["server streaming"](ctx, bus, &testv1.WatchRequest{})
		},
		"chat": func(ctx context.Context) error { return everyShape["bidirectional"](ctx, bus, &testv1.ChatRequest{}) },
		"by name": func(ctx context.Context) error {
			_, err := bus.Call(ctx, "test.echo.echo", framework.Args{"text": "x"})
			return err
		},
		"asynchronous": func(ctx context.Context) error {
			_, err := framework.CallAsync(ctx, testv1.NewEchoServiceClient(bus).Echo, &testv1.EchoRequest{}).Await(ctx)
			return err
		},
		"ping": func(ctx context.Context) error {
			_, err := testv1.NewPlainServiceClient(bus).Ping(ctx, &testv1.PingRequest{})
			return err
		},
	}
	for name, allowed := range map[string][]string{
		"":                           {"ping"},
		"stranger":                   {"ping"},
		"Shop":                       {"ping"},
		"shop/":                      {"ping"},
		"*":                          {"ping"},
		"shop":                       {"ping", "echo", "by name", "asynchronous"},
		"spiffe://example.org/mail":  {"ping", "echo", "by name", "asynchronous"},
		"spiffe://example.org/mail/": {"ping"},
		"admin":                      {"ping", "watch"},
	} {
		for rpc, call := range calls {
			t.Run(name+" calls "+rpc, func(t *testing.T) { //nolint:paralleltest // they count runs
				before := runs.Load()
				err := call(as(t, name))
				if slices.Contains(allowed, rpc) {
					if err != nil || runs.Load() == before && rpc != "chat" {
						t.Errorf("%v after %d runs, want that it runs", err, runs.Load()-before)
					}
					return
				}
				if status.Code(err) != codes.PermissionDenied || framework.OutcomeOf(err) != framework.Refused || runs.Load() != before {
					t.Errorf("%v (%v) after %d runs, want PERMISSION_DENIED, refused", err, framework.OutcomeOf(err), runs.Load()-before)
				}
				for _, secret := range []string{"shop", "admin", "mail"} {
					if strings.Contains(status.Convert(err).Message(), secret) {
						t.Errorf("the error says who may call, or who calls: %v", err)
					}
				}
			})
		}
	}
	refused := observed[framework.CallRefused](&events)
	if len(refused) == 0 || slices.ContainsFunc(refused, func(event framework.CallRefused) bool { return event.Code != codes.PermissionDenied }) {
		t.Errorf("the observer was notified of %v, want of refused calls", refused)
	}
}

func TestWhoIsNotAuthorizedLearnsNoRule(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	registry := memory.New()
	serve(t, registry, ran(&runs), byName, framework.Authorize(framework.Policy{"test.echo": {"shop"}}))
	_, instance := direct(t, registry)
	conn := dialled(t, instance.Address)
	for shape, call := range everyShape {
		t.Run(shape, func(t *testing.T) {
			t.Parallel()
			ctx := identified(t.Context(), atmostonce.Identity{Incarnation: instance.Incarnation, Session: atmostonce.NewSession(time.Now()), Seq: 1})
			var trailer metadata.MD
			err := call(ctx, conn, &testv1.EchoRequest{Text: tooLong}, grpc.Trailer(&trailer))
			if status.Code(err) != codes.PermissionDenied || len(status.Convert(err).Details()) != 0 || !slices.Equal(trailer.Get(atmostonce.OutcomeKey), []string{atmostonce.OutcomeRefused}) {
				t.Errorf("a bad request = %v with %v, and the trailer %v", err, status.Convert(err).Details(), trailer)
			}
		})
	}
}

// TestNoPathGetsPastAuthorization calls paths that are nearly those of an RPC.
func TestNoPathGetsPastAuthorization(t *testing.T) {
	t.Parallel()
	var runs, inside atomic.Int64
	registry := memory.New()
	serve(t, registry, ran(&runs), byName, framework.Authorize(framework.Policy{"test.echo": {"shop"}}),
		framework.ServerOptions(
			grpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
				inside.Add(1)
				return handler(ctx, req)
			}),
			grpc.ChainStreamInterceptor(func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				inside.Add(1)
				return handler(srv, stream)
			})))
	conn := dialled(t, serving(t, registry, 1)[0].Address)
	const service, plain = "onecall.test.v1.EchoService", "onecall.test.v1.PlainService"
	for _, path := range []string{
		"/" + service + "/Echo", service + "/Echo", "//" + service + "/Echo", "/" + service + "//Echo", "/" + service + "/Echo/", "/" + service + "/echo",
		"/Onecall.Test.V1.EchoService/Echo", "/" + service + "/Whisper", "/" + service + "/", "/" + service, "/", "Echo", "/test.echo/echo",
		"/x/" + service + "/Echo", "/" + service + "/Echo?x", "/" + service + "/%45cho", "/" + service + "/Echo ", "/./" + service + "/Echo",
		"/" + plain + "/Ping", "/" + plain + "/Echo", "/grpc.health.v1.Health/../" + service + "/Echo", "/grpc.health.v1.Health/Echo", "/no.such.Service/Method",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			for _, name := range []string{"", "stranger"} {
				err := conn.Invoke(as(t, name), path, &testv1.EchoRequest{}, &testv1.EchoResponse{})
				if code := status.Code(err); code != codes.PermissionDenied && code != codes.Unimplemented {
					t.Errorf("a unary call by %q = %v", name, err)
				}
				err = streaming(path, grpc.StreamDesc{ClientStreams: true, ServerStreams: true})(as(t, name), conn, &testv1.EchoRequest{})
				if code := status.Code(err); code != codes.PermissionDenied && code != codes.Unimplemented {
					t.Errorf("a stream by %q = %v", name, err)
				}
			}
		})
	}
	t.Cleanup(func() {
		if runs.Load() != 0 || inside.Load() != 0 {
			t.Errorf("%d handlers and %d interceptors after authorization ran", runs.Load(), inside.Load())
		}
	})
}

// TestAMethodThatIsNotRegisteredIsNotDenied calls a method that a newer instance has.
func TestAMethodThatIsNotRegisteredIsNotDenied(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{}, byName, framework.Authorize(framework.Policy{"test.echo": {"shop"}}))
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	err := bus.Invoke(as(t, "shop"), "/onecall.test.v1.EchoService/Whisper", &testv1.EchoRequest{}, &testv1.EchoResponse{})
	if status.Code(err) != codes.Unimplemented || framework.OutcomeOf(err) != framework.Refused {
		t.Errorf("a call = %v (%v), want UNIMPLEMENTED, refused", err, framework.OutcomeOf(err))
	}
}

// TestTheRegisteredMethodDecides has a method that names another one to its interceptors.
func TestTheRegisteredMethodDecides(t *testing.T) {
	t.Parallel()
	for _, claimed := range []string{testv1.EchoService_EchoSoon_FullMethodName, grpc_health_v1.Health_Check_FullMethodName, "/no.such.Service/Method", ""} {
		t.Run("it names "+claimed, func(t *testing.T) {
			t.Parallel()
			var runs atomic.Int64
			registry := memory.New()
			desc := testv1.EchoService_ServiceDesc
			desc.Methods = slices.Clone(desc.Methods)
			for i := range desc.Methods {
				if desc.Methods[i].MethodName != "Echo" {
					continue
				}
				desc.Methods[i].Handler = func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
					request := new(testv1.EchoRequest)
					if err := decode(request); err != nil {
						return nil, err
					}
					return interceptor(ctx, request, &grpc.UnaryServerInfo{Server: srv, FullMethod: claimed}, func(context.Context, any) (any, error) {
						runs.Add(1)
						return &testv1.EchoResponse{}, nil
					})
				}
			}
			serveAny(t, registry, func(apis grpc.ServiceRegistrar) { apis.RegisterService(&desc, &echo{}) },
				byName, framework.Authorize(framework.Policy{"test.echo.echo_soon": {"shop"}, "test.echo.echo": {"admin"}}))
			bus := newBus(t, registry)
			ready(t, bus, "test.echo")
			if err := everyShape["unary"](as(t, "shop"), bus, &testv1.EchoRequest{}); status.Code(err) != codes.PermissionDenied || runs.Load() != 0 {
				t.Errorf("who may call what it names = %v after %d runs", err, runs.Load())
			}
			if err := everyShape["unary"](as(t, "admin"), bus, &testv1.EchoRequest{}); err != nil || runs.Load() != 1 {
				t.Errorf("who may call it = %v after %d runs", err, runs.Load())
			}
		})
	}
}

func TestThePrincipalIsThatOfTheCertificate(t *testing.T) {
	t.Parallel()
	authority, registry := certtest.NewAuthority(t), memory.New()
	var mu sync.Mutex
	var principal string
	own := &echo{echo: func(ctx context.Context, _ string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		principal = framework.PrincipalOf(ctx)
		return "", nil
	}}
	serve(t, registry, own, withTLS(named(t, authority, "test.echo")), framework.Authorize(framework.Policy{"test.echo": {"spiffe://example.org/shop", "mail"}}))
	serving(t, registry, 1)
	for title, test := range map[string]struct {
		leaf certtest.Leaf
		want string // "" if the call is refused
	}{
		"a SPIFFE ID":          {certtest.Leaf{URIs: []string{"spiffe://example.org/shop"}, Names: []string{"other"}}, "spiffe://example.org/shop"},
		"a DNS name":           {certtest.Leaf{Names: []string{"mail", "other"}}, "mail"},
		"another ID":           {certtest.Leaf{URIs: []string{"spiffe://example.org/shop2"}, Names: []string{"mail"}}, ""},
		"the second DNS name":  {certtest.Leaf{Names: []string{"other", "mail"}}, ""},
		"neither":              {certtest.Leaf{}, ""},
		"an ID as a DNS name":  {certtest.Leaf{Names: []string{"spiffe://example.org/shop"}}, ""},
		"the ID is the second": {certtest.Leaf{URIs: []string{"https://example.org", "spiffe://example.org/shop"}}, ""},
	} {
		t.Run(title, func(t *testing.T) { //nolint:paralleltest // they share the principal
			files, _ := authority.Write(t, test.leaf)
			err := everyShape["unary"](t.Context(), newBus(t, registry, withTLS(files)), &testv1.EchoRequest{})
			if test.want == "" {
				if status.Code(err) != codes.PermissionDenied || framework.OutcomeOf(err) != framework.Refused {
					t.Errorf("a call = %v", err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil || principal != test.want {
				t.Errorf("a call = %v, and its handler was called by %q, want %q", err, principal, test.want)
			}
		})
	}
}

func TestReflectionNeedsAPolicyAndHealthDoesNot(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		policy framework.Policy
		want   codes.Code
	}{
		"not named": {framework.Policy{"test.echo": {"shop"}}, codes.PermissionDenied},
		"named":     {framework.Policy{"test.echo": {"shop"}, "grpc.reflection.v1.ServerReflection": {"*"}}, codes.OK},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			serveAny(t, registry, func(apis grpc.ServiceRegistrar) {
				(&echo{}).register(apis)
				reflection.Register(apis.(reflection.GRPCServer))
			}, framework.Authorize(test.policy))
			conn := dialled(t, serving(t, registry, 1)[0].Address)
			stream, err := grpc_reflection_v1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			_ = stream.Send(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
			if _, err := stream.Recv(); status.Code(err) != test.want {
				t.Errorf("reflection = %v, want %v", err, test.want)
			}
			health := grpc_health_v1.NewHealthClient(conn)
			if _, err := health.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
				t.Errorf("health = %v", err)
			}
			watch, err := health.Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
			if err == nil {
				_, err = watch.Recv()
			}
			if err != nil {
				t.Errorf("a watch of health = %v", err)
			}
		})
	}
}

// lastPolicy returns how many events of policies there were, and the error of the last.
func lastPolicy(seen *recorder) (int, error) {
	events := observed[framework.PolicyChanged](seen)
	return len(events), events[len(events)-1].Err
}

func TestThePolicyIsReadAgainWhenItsFileChanges(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "policy.json")
	certtest.Store(t, file, []byte(`{"test.echo": ["shop"]}`))
	synctest.Test(t, func(t *testing.T) {
		log, seen, metrics := new(testlog.Log), new(recorder), telemetry.New()
		bus := busInMemory(t, &echo{}, byName, framework.AuthorizeFile(file), framework.Logger(log.Logger()), framework.Observe(seen), framework.Metrics(metrics))
		time.Sleep(time.Second) // the file is read every 10 s, and must not be half written then
		for _, step := range []struct {
			content, allowed, refused string
			events                    int
			wrong                     string
		}{
			{`{"test.echo": ["shop"]}`, "shop", "mail", 1, ""},
			{`{"test.echo": ["mail"]}`, "mail", "shop", 2, ""},
			{`{"test.echo": ["shop"]`, "mail", "shop", 3, "line 1: it ends too early"},
			{`{"test.eco": ["shop"]}`, "mail", "shop", 4, `the service has no API and no RPC "test.eco": did you mean test.echo`},
			{`{}`, "mail", "shop", 5, "it names no API and no RPC"},
			{"", "mail", "shop", 6, "line 1: it ends too early"},
			{`{"test.echo": ["mail"]}`, "mail", "shop", 7, ""},
			{`{"test.echo": ["shop", "mail"]}`, "shop", "other", 8, ""},
		} {
			certtest.Store(t, file, []byte(step.content))
			time.Sleep(15 * time.Second)
			if err := everyShape["unary"](as(t, step.allowed), bus, &testv1.EchoRequest{}); err != nil {
				t.Errorf("with %s a call of %s = %v", step.content, step.allowed, err)
			}
			if err := everyShape["unary"](as(t, step.refused), bus, &testv1.EchoRequest{}); status.Code(err) != codes.PermissionDenied {
				t.Errorf("with %s a call of %s = %v", step.content, step.refused, err)
			}
			if events, err := lastPolicy(seen); events != step.events || (err != nil) != (step.wrong != "") || err != nil && !strings.Contains(err.Error(), step.wrong) {
				t.Errorf("with %s there were %d events, the last with %v; want %d, %q", step.content, events, err, step.events, step.wrong)
			}
			if unusable := valuesOf(metrics, telemetry.PolicyUnusable)[""]; unusable != telemetry.Flag(step.wrong != "") {
				t.Errorf("with %s the metric is %v", step.content, unusable)
			}
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if err := everyShape["unary"](as(t, "shop"), bus, &testv1.EchoRequest{}); err != nil {
			t.Errorf("without the file a call = %v", err)
		}
		if events, err := lastPolicy(seen); events != 9 || err == nil || log.Count("the last good policy stays in use") != 5 {
			t.Errorf("without the file there were %d events, the last with %v:\n%s", events, err, log)
		}
	})
}

func TestAWrongPolicyIsAnErrorAtTheStart(t *testing.T) {
	t.Parallel()
	file := func(content string) framework.ServeOption {
		name := filepath.Join(t.TempDir(), "policy.json")
		certtest.Store(t, name, []byte(content))
		return framework.AuthorizeFile(name)
	}
	good := framework.Authorize(framework.Policy{"test.echo": {"shop"}})
	for want, options := range map[string][]framework.ServeOption{
		"option Authorize: the policy is empty":                                                    {framework.Authorize(nil)},
		"options Authorize and AuthorizeFile: a policy is given twice":                             {good, file(`{"test.echo": ["shop"]}`)},
		"option AuthorizeFile: the name is empty":                                                  {framework.AuthorizeFile("")},
		"option AuthorizeFile: open /no/such/file: no such file or directory":                      {framework.AuthorizeFile("/no/such/file")},
		`option Authorize: the service has no API and no RPC "test.ecco": did you mean test.echo`:  {framework.Authorize(framework.Policy{"test.ecco": {"shop"}})},
		`the service has no API and no RPC "nothing.like.it": it has onecall.test.v1.PlainService`: {framework.Authorize(framework.Policy{"nothing.like.it": {"shop"}})},
		`no RPC "grpc.health.v1.Health"`:                                                           {framework.Authorize(framework.Policy{"grpc.health.v1.Health": {"shop"}})},
		`no RPC "onecall.test.v1.EchoService"`:                                                     {framework.Authorize(framework.Policy{"onecall.test.v1.EchoService": {"shop"}})},
		`test.echo: the principal "" is empty`:                                                     {framework.Authorize(framework.Policy{"test.echo": {""}})},
		`test.echo: the principal " shop" is empty or has spaces around it`:                        {framework.Authorize(framework.Policy{"test.echo": {" shop"}})},
		`line 1: there is [ where { is expected`:                                                   {file(`["test.echo"]`)},
		`line 1: there is shop where [ is expected`:                                                {file(`{"test.echo": "shop"}`)},
		`line 3: there is 7 where a string is expected`:                                            {file("{\n\"test.echo\": [\n7]}")},
		`line 1: "test.echo" is there twice`:                                                       {file(`{"test.echo": ["shop"], "test.echo": ["mail"]}`)},
		`line 2: there is more after the object`:                                                   {file("{\"test.echo\": [\"shop\"]}\n{}")},
		`invalid character`:                                                                        {file(`{"test.echo": [shop]}`)},
	} {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			if err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, options...); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Serve = %v, want an error that says %q", err, want)
			}
		})
	}
}
