package framework_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/examples/auth"
	"github.com/onecall-dev/onecall/examples/auth/accounts"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/ledgertest"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// served serves the auth API of the examples until stop is called.
func served() (registry discovery.Registry, stop func()) {
	dir, err := os.MkdirTemp("", "onecall-example-")
	if err != nil {
		log.Fatal(err)
	}
	store, err := accounts.Open(filepath.Join(dir, "accounts.json"), bcrypt.MinCost, "adam")
	if err != nil {
		log.Fatal(err)
	}
	registry = memory.New()
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() {
		returned <- framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
			authv1.RegisterAuthServiceServer(apis, auth.NewServer(store))
		}, quiet)
	}()
	conn, err := framework.Dial(registry, "auth", quiet)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Ready(ctx); err != nil {
		log.Fatal(err)
	}
	return registry, func() {
		cancel()
		if err := errors.Join(<-returned, os.RemoveAll(dir)); err != nil {
			log.Fatal(err)
		}
	}
}

// called is a bus on a registry where auth is served.
func called() (bus *framework.Bus, stop func()) {
	registry, stopService := served()
	bus, err := framework.NewBus(registry, quiet)
	if err != nil {
		log.Fatal(err)
	}
	if err := bus.Ready(context.Background(), "auth"); err != nil {
		log.Fatal(err)
	}
	return bus, func() {
		if err := bus.Close(); err != nil {
			log.Fatal(err)
		}
		stopService()
	}
}

func ExampleServe() {
	store, err := accounts.Open(filepath.Join(os.TempDir(), "onecall-example-accounts.json"), bcrypt.MinCost, "adam")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(filepath.Join(os.TempDir(), "onecall-example-accounts.json"))
	registry := memory.New() // if other processes call the service, use package etcd

	// A program ends its service with signal.NotifyContext, and with
	// context.AfterFunc(ctx, stop), so that a second signal ends the process.
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err = framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(store))
	}, framework.ListenOn("127.0.0.1:0"), framework.ShutdownTimeout(10*time.Second), quiet)
	fmt.Println("Serve returned", err)
	// Output: Serve returned <nil>
}

// With gRPC's reflection service, tools such as grpcurl list and describe the methods of
// a service.
func ExampleServe_reflection() {
	users, err := accounts.Open(filepath.Join(os.TempDir(), "onecall-example-reflected.json"), bcrypt.MinCost, "adam")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(filepath.Join(os.TempDir(), "onecall-example-reflected.json"))
	registry := memory.New()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err = framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(users))
		reflection.Register(apis.(reflection.GRPCServer)) // google.golang.org/grpc/reflection
	})
	fmt.Println("Serve returned", err)
	// Output: Serve returned <nil>
}

func ExampleNewBus() {
	registry, stop := served()
	defer stop()

	bus, err := framework.NewBus(registry)
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()

	client := authv1.NewAuthServiceClient(bus)
	reply, err := client.CheckPassword(context.Background(), &authv1.CheckPasswordRequest{Username: "admin", Password: "secret"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("the password is right:", reply.GetValid())
	// Output: the password is right: true
}

func ExampleDial() {
	registry, stop := served()
	defer stop()

	conn, err := framework.Dial(registry, "auth")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	reply, err := authv1.NewAuthServiceClient(conn).GetUser(context.Background(), &authv1.GetUserRequest{Username: "admin"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.GetUser().GetUsername(), "is an administrator:", reply.GetUser().GetAdmin())

	_, err = framework.Dial(registry, "Auth Service")
	fmt.Println(err)
	// Output:
	// admin is an administrator: true
	// onecall: Dial: API "Auth Service": not a name of an API: a bus name is like auth or billing.invoices, a full proto name like auth.v1.AuthService
}

func ExampleCallAsync() {
	bus, stop := called()
	defer stop()
	client := authv1.NewAuthServiceClient(bus)
	ctx := context.Background()

	first := framework.CallAsync(ctx, client.CheckPassword, &authv1.CheckPasswordRequest{Username: "admin", Password: "secret"})
	second := framework.CallAsync(ctx, client.CheckPassword, &authv1.CheckPasswordRequest{Username: "admin", Password: "guess"})

	for _, call := range []*framework.Call[authv1.CheckPasswordResponse]{first, second} {
		reply, err := call.Await(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(reply.GetValid())
	}
	// Output:
	// true
	// false
}

func ExampleCall_Done() {
	bus, stop := called()
	defer stop()

	call := framework.CallAsync(context.Background(), authv1.NewAuthServiceClient(bus).GetUser, &authv1.GetUserRequest{Username: "unknown"})
	select {
	case <-call.Done():
		_, err := call.Await(context.Background())
		fmt.Println(status.Code(err), status.Convert(err).Message())
	case <-time.After(time.Minute):
		fmt.Println("no reply for a minute")
	}
	// Output: NotFound no such account: username "unknown"
}

func ExampleBus_Ready() {
	registry, stop := served()
	defer stop()
	bus, err := framework.NewBus(registry)
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	fmt.Println(bus.Ready(ctx, "auth"))
	fmt.Println(bus.Ready(ctx, "outh"))
	// Output:
	// <nil>
	// onecall: not ready: unknown API "outh": it was never served; check its name and that a service of it was started (did you mean auth? the registry knows auth)
}

func ExampleBus_Close() {
	bus, stop := called()
	defer stop()

	fmt.Println(bus.Close(), bus.Close())
	_, err := authv1.NewAuthServiceClient(bus).GetUser(context.Background(), &authv1.GetUserRequest{Username: "admin"})
	fmt.Println(errors.Is(err, framework.ErrClosed), status.Code(err))
	// Output:
	// <nil> <nil>
	// true Canceled
}

func ExampleTimeout() {
	bus, stop := called()
	defer stop()
	client := authv1.NewAuthServiceClient(bus)

	_, err := client.CheckPassword(context.Background(), &authv1.CheckPasswordRequest{Username: "admin", Password: "secret"},
		framework.Timeout(time.Microsecond))
	fmt.Println(err)
	if timed, ok := errors.AsType[*timeout.Error](err); ok {
		fmt.Println("the limit that passed was", timed.Limit.Duration)
	}
	// Output:
	// auth.check_password: no reply within 1µs, the call's Timeout option (the call was not sent)
	// the limit that passed was 1µs
}

func ExampleListenOn() {
	registry := memory.New()
	err := framework.Serve(context.Background(), registry, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(nil))
	}, framework.ListenOn("8443"))
	fmt.Println(err)
	// Output: onecall: service: option ListenOn: "8443" is not "host:port", such as ":8443" or "127.0.0.1:0": address 8443: missing port in address
}

func ExampleAdvertiseAs() {
	registry := memory.New()
	stop := registry.Watch("auth", func(snapshot discovery.Snapshot) {
		for _, instance := range snapshot.Instances {
			if instance.State == discovery.Serving {
				fmt.Println("callers dial", instance.Address)
			}
		}
	})
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err := framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(nil))
	}, framework.AdvertiseAs("auth.internal:8443"), quiet)
	fmt.Println(err)
	// Output:
	// callers dial auth.internal:8443
	// <nil>
}

func ExampleShutdownTimeout() {
	err := framework.Serve(context.Background(), memory.New(), func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(nil))
	}, framework.ShutdownTimeout(0))
	fmt.Println(err)
	// Output: onecall: service: option ShutdownTimeout: 0s is not more than zero: calls in flight need time to end
}

func ExampleServerOptions() {
	registry := memory.New()
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	// With TLS it is grpc.Creds(credentials.NewTLS(…)).
	err := framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(nil))
	}, framework.ServerOptions(grpc.MaxRecvMsgSize(1<<20), grpc.Creds(insecure.NewCredentials())), quiet)
	fmt.Println(err)
	// Output: <nil>
}

func ExampleDialOptions() {
	registry, stop := served()
	defer stop()
	// With TLS it is grpc.WithTransportCredentials(credentials.NewTLS(…)).
	bus, err := framework.NewBus(registry, framework.DialOptions(
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent("example/1")))
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()
	_, err = authv1.NewAuthServiceClient(bus).GetUser(context.Background(), &authv1.GetUserRequest{Username: "admin"})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleOutcomeOf() {
	bus, stop := called()
	defer stop()
	client := authv1.NewAuthServiceClient(bus)

	_, err := client.GetUser(context.Background(), &authv1.GetUserRequest{Username: "unknown"})
	fmt.Println(framework.OutcomeOf(err) == framework.Executed)

	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = client.PromoteToAdmin(ended, &authv1.PromoteToAdminRequest{Username: "adam"})
	switch framework.OutcomeOf(err) {
	case framework.NotSent, framework.Refused:
		fmt.Println("safe to call again:", err)
	case framework.Executed:
		fmt.Println("it ran:", err)
	case framework.Unknown:
		fmt.Println("look before calling again:", err)
	}
	// Output:
	// true
	// safe to call again: auth.promote_to_admin: context canceled (the call was not sent)
}

func ExampleRetry() {
	registry, stop := served()
	defer stop()
	// The bus makes no retries: the program decides about them.
	bus, err := framework.NewBus(registry, framework.Retry(framework.RetryNone))
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()
	reply, err := authv1.NewAuthServiceClient(bus).GetUser(context.Background(), &authv1.GetUserRequest{Username: "admin"})
	fmt.Println(reply.GetUser().GetId(), err)
	// Output: 1 <nil>
}

func ExampleAdmission() {
	// Instances on several machines share a ledger on etcd: see package etcdledger.
	shared := new(ledgertest.Memory)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	register := func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(nil))
	}
	err := framework.Serve(ctx, memory.New(), register, framework.Admission(framework.AdmissionConfig{RequireIdentity: true, Ledger: shared}), quiet)
	fmt.Println(err)
	err = framework.Serve(ctx, memory.New(), register, framework.Admission(framework.AdmissionConfig{MaxSessionsPerPrincipal: 1000, MaxSessions: 10}))
	fmt.Println(err)
	// Output:
	// <nil>
	// onecall: service: option Admission: MaxSessions is 10, and MaxSessionsPerPrincipal 1000: set the limit of all to that of one or more
}

func ExampleAuthenticate() {
	registry := memory.New()
	ctx, stop := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() {
		returned <- framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
			authv1.RegisterAuthServiceServer(apis, auth.NewServer(nil))
		}, quiet, framework.Authenticate(func(ctx context.Context) (context.Context, error) {
			token := metadata.ValueFromIncomingContext(ctx, "authorization")
			if len(token) != 1 || token[0] != "Bearer swordfish" {
				return nil, status.Error(codes.Unauthenticated, "a token is missing or wrong")
			}
			return framework.WithPrincipal(ctx, "the-shop"), nil
		}))
	}()
	bus, err := framework.NewBus(registry, quiet)
	if err != nil {
		log.Fatal(err)
	}
	if err := bus.Ready(ctx, "auth"); err != nil {
		log.Fatal(err)
	}
	_, err = bus.Call(ctx, "auth.check_password", framework.Args{"username": "adam", "password": "?"})
	fmt.Println(err)
	if err := bus.Close(); err != nil {
		log.Fatal(err)
	}
	stop()
	fmt.Println(<-returned)
	// Output:
	// rpc error: code = Unauthenticated desc = a token is missing or wrong
	// <nil>
}

func ExampleExposeErrors() {
	registry := memory.New()
	ctx, stop := context.WithCancel(context.Background())
	stop() // as at a signal that ends the program
	fmt.Println(framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(nil))
	}, quiet, framework.ExposeErrors()))
	// Output: <nil>
}

func ExampleLoadBalancing() {
	registry := memory.New()
	_, err := framework.NewBus(registry, framework.LoadBalancing("round_robin", ""))
	fmt.Println(err)
	_, err = framework.NewBus(registry, framework.LoadBalancing("ring_hash_experimental", `{"requestHashHeader": "account"}`))
	fmt.Println(err)
	_, err = framework.NewBus(registry, framework.LoadBalancing("fastest", ""))
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
	// onecall: bus: option LoadBalancing: no policy has the name "fastest": use one of ["onecall_least_request" "least_request_experimental" "round_robin" "weighted_round_robin" "ring_hash_experimental" "random_subsetting_experimental" "pick_first"]
}

func ExampleZone() {
	registry := memory.New()
	bus, err := framework.NewBus(registry, framework.Zone("eu-west-1a"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(bus.Close())
	// Output: <nil>
}

func ExampleLogger() {
	handler := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "after" {
			return slog.Attr{}
		}
		return a
	}})
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	err := framework.Serve(ctx, memory.New(), func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(nil))
	}, framework.Logger(slog.New(handler)), framework.AdvertiseAs("auth.internal:8443"))
	fmt.Println(err)
	// Output:
	// level=INFO msg=serving address=auth.internal:8443 apis=[auth]
	// level=INFO msg="shutting down: leaving the registry" address=auth.internal:8443 shutdown_timeout=25s lame_duck=0s
	// level=INFO msg="the registry was left; finishing the calls under way" address=auth.internal:8443 calls=none
	// level=INFO msg=stopped address=auth.internal:8443
	// <nil>
}

func ExampleBus_Call() {
	bus, stop := called()
	defer stop()
	ctx := context.Background()

	reply, err := bus.Call(ctx, "auth.check_password", framework.Args{"username": "admin", "password": "secret"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Map())

	_, err = bus.Call(ctx, "auth.check_password", framework.Args{"usrname": "admin", "password": "secret"})
	fmt.Println(framework.OutcomeOf(err), status.Code(err))
	fmt.Println(err)
	// Output:
	// map[valid:true]
	// the call was not sent InvalidArgument
	// auth.check_password: username is missing: it takes a string; usrname is no parameter: did you mean username? Write bus.Call(ctx, "auth.check_password", framework.Args{"username": "…", "password": "…"})
}

func ExampleReply_Into() {
	bus, stop := called()
	defer stop()
	ctx := context.Background()

	// A reply with one field goes into a variable of its type,
	reply, err := bus.Call(ctx, "auth.check_password", framework.Args{"username": "admin", "password": "secret"})
	if err != nil {
		log.Fatal(err)
	}
	var valid bool
	if err := reply.Into(&valid); err != nil {
		log.Fatal(err)
	}
	fmt.Println(valid)

	// any reply into a struct or a map.
	reply, err = bus.Call(ctx, "auth.get_user", framework.Args{"username": "admin"})
	if err != nil {
		log.Fatal(err)
	}
	var into struct {
		User struct {
			ID    int64
			Admin bool
		}
	}
	if err := reply.Into(&into); err != nil {
		log.Fatal(err)
	}
	fmt.Println(into.User.ID, into.User.Admin)

	// A value that does not fit exactly is an error.
	fmt.Println(reply.Into(new(struct{ User string })))
	// Output:
	// true
	// 1 true
	// auth.get_user: reply: user is a message auth.v1.User and does not go into string
}

func ExampleReply_Map() {
	bus, stop := called()
	defer stop()
	reply, err := bus.Call(context.Background(), "auth.get_user", framework.Args{"username": "admin"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(reply.Map())
	// Output: map[user:map[admin:true id:1 username:admin]]
}

func ExampleReply_Message() {
	bus, stop := called()
	defer stop()
	reply, err := bus.Call(context.Background(), "auth.get_user", framework.Args{"username": "admin"})
	if err != nil {
		log.Fatal(err)
	}
	// This program has the API's generated code, so the reply is of its type.
	if got, ok := reply.Message().(*authv1.GetUserResponse); ok {
		fmt.Println(got.GetUser().GetUsername())
	}
	// Output: admin
}

func ExampleBus_Describe() {
	bus, stop := called()
	defer stop()
	description, err := bus.Describe(context.Background(), "auth")
	if err != nil {
		log.Fatal(err)
	}
	rpc := description.RPCs[0]
	fmt.Println(rpc.Name, rpc.Timeout, rpc.Idempotency)
	for _, parameter := range rpc.Parameters {
		fmt.Println(parameter.Name, parameter.Type, parameter.Required, parameter.Rules)
	}
	// Output:
	// auth.check_password 2s NO_SIDE_EFFECTS
	// username string true [string.min_len: 1 string.max_len: 64]
	// password string true [string.min_len: 1 string.max_len: 128]
}

func ExampleStrictSchema() {
	registry, stop := served()
	defer stop()

	// A bus that does not call instances with an incompatible schema.
	bus, err := framework.NewBus(registry, framework.StrictSchema())
	if err != nil {
		log.Fatal(err)
	}
	defer bus.Close()
	_, err = authv1.NewAuthServiceClient(bus).GetUser(context.Background(), &authv1.GetUserRequest{Username: "admin"})
	var incompatible *framework.SchemaError
	fmt.Println(errors.As(err, &incompatible), bus.Stats().IncompatibleSchemas)
	// Output: false 0
}
