package framework_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	etcdresolver "go.etcd.io/etcd/client/v3/naming/resolver"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/internal/unixsocket"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/fixedport"
	"github.com/onecall-dev/onecall/internal/grpctest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func startEtcd(tb testing.TB, config embed.Config) *embed.Server {
	tb.Helper()
	server, err := embed.Start(tb.Context(), config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := server.Close(); err != nil {
			tb.Error(err)
		}
	})
	return server
}

func openEtcd(tb testing.TB, endpoints ...string) *etcd.Registry {
	tb.Helper()
	registry, err := etcd.Open(etcd.Config{Endpoints: endpoints, TTL: 3 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = registry.Close() })
	return registry
}

// serveOn serves the test APIs through a registry until the test ends.
func serveOn(t *testing.T, registry discovery.Registry, options ...framework.ServeOption) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() {
		returned <- framework.Serve(ctx, registry, (&echo{}).register, append(options, quiet, framework.ShutdownTimeout(eventually.Limit))...)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-returned; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

func TestAServiceIsFoundInEtcdByAnyClient(t *testing.T) {
	t.Parallel()
	server := startEtcd(t, embed.Config{})
	seen := new(networks)
	arrived := func(whose, want string) {
		t.Helper()
		if got := seen.take(); got != want && unixsocket.Supported {
			t.Errorf("the call of %s arrived over %q, want %q", whose, got, want)
		}
	}
	serveOn(t, openEtcd(t, server.Endpoints()...), seen.option())
	bus := newBus(t, openEtcd(t, server.Endpoints()...))
	ready(t, bus, "test.echo", "onecall.test.v1.PlainService")
	if reply, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{Text: "hi"}); err != nil || reply.GetText() != "hi" {
		t.Errorf("Echo on a bus = %v, %v", reply, err)
	}
	arrived("a bus", "unix")

	snapshot := discoverytest.Watch(t, openEtcd(t, server.Endpoints()...), "test.echo").
		Until(t, "an instance", func(s discovery.Snapshot) bool { return len(s.Instances) == 1 })
	direct, err := grpc.NewClient(snapshot.Instances[0].Address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	if reply, err := testv1.NewEchoServiceClient(direct).Echo(t.Context(), &testv1.EchoRequest{Text: "hi"}); err != nil || reply.GetText() != "hi" {
		t.Errorf("Echo of a plain gRPC client = %v, %v", reply, err)
	}
	arrived("a plain gRPC client", "tcp")

	client, err := clientv3.New(clientv3.Config{Endpoints: server.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	builder, err := etcdresolver.NewBuilder(client)
	if err != nil {
		t.Fatal(err)
	}
	official, err := grpc.NewClient("etcd:///onecall/apis/test.echo", grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer official.Close()
	if reply, err := testv1.NewEchoServiceClient(official).Echo(t.Context(), &testv1.EchoRequest{Text: "hi"}); err != nil || reply.GetText() != "hi" {
		t.Errorf("Echo of a client with etcd's own resolver = %v, %v", reply, err)
	}
	arrived("a client with etcd's own resolver", "tcp")
}

func TestEtcdMayComeLater(t *testing.T) {
	t.Parallel()
	address := fixedport.Address(t) // where etcd starts later
	var later *embed.Server         // closed after all that uses it
	t.Cleanup(func() {
		if later != nil {
			_ = later.Close()
		}
	})
	registry := openEtcd(t, "http://"+address)
	serveOn(t, registry)
	bus := newBus(t, registry)
	client := testv1.NewEchoServiceClient(bus)

	start := time.Now()
	_, err := client.Echo(t.Context(), &testv1.EchoRequest{}, framework.Timeout(2*time.Second))
	if took := time.Since(start); took > 2*time.Second+eventually.AtOnce {
		t.Errorf("a call without etcd took %v, its timeout is 2s", took)
	}
	var unreachable *discovery.UnreachableError
	if code := status.Code(err); code != codes.Unavailable && code != codes.DeadlineExceeded || !errors.As(err, &unreachable) ||
		!strings.Contains(err.Error(), "the registry can't be reached: etcd at http://"+address) {
		t.Errorf("a call without etcd = %v, want an error that says it can't be reached", err)
	}

	if later, err = embed.Start(t.Context(), embed.Config{Listen: address}); err != nil {
		t.Fatal(err)
	}
	ready(t, bus, "test.echo")
	if reply, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: "hi"}); err != nil || reply.GetText() != "hi" {
		t.Errorf("once etcd is there: %v, %v", reply, err)
	}
}

func TestACallOnASilentEtcdEndsByItsDeadline(t *testing.T) {
	t.Parallel()
	// It accepts connections and says nothing.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	bus := newBus(t, openEtcd(t, "http://"+listener.Addr().String()))
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err = testv1.NewEchoServiceClient(bus).Echo(ctx, &testv1.EchoRequest{})
	if took := time.Since(start); took > 300*time.Millisecond+eventually.AtOnce {
		t.Errorf("the call took %v, its deadline was after 300ms", took)
	}
	if status.Code(err) != codes.DeadlineExceeded || !strings.Contains(err.Error(), "the registry can't be reached") {
		t.Errorf("the call = %v, want DEADLINE_EXCEEDED that names the registry", err)
	}
	eventually.Returns(t, "Close", func() {
		if err := bus.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestNothingInTheRegistryChoosesTheNameThatACallerChecks lets an attacker who may
// write to the registry register another server for an API.
func TestNothingInTheRegistryChoosesTheNameThatACallerChecks(t *testing.T) {
	t.Parallel()
	server := startEtcd(t, embed.Config{})
	own, pool := certificate(t, "evil")
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	evil := grpc.NewServer()
	testv1.RegisterEchoServiceServer(evil, &echo{})
	grpctest.Serve(t, evil, listener)
	direct, err := clientv3.New(clientv3.Config{Endpoints: server.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = direct.Close() })
	value := fmt.Sprintf(`{"Op":0,"Addr":%q,"ServerName":"evil","Attributes":{"ServerName":"evil"},"Metadata":{"incarnation":%q,"service":"onecall.test.v1.EchoService","ServerName":"evil","authority":"evil","zone":"evil"}}`,
		listener.Addr(), discovery.NewIncarnation())
	if _, err := direct.Put(t.Context(), "onecall/apis/test.echo/evil", value); err != nil {
		t.Fatal(err)
	}
	bus := newBus(t, openEtcd(t, server.Endpoints()...),
		framework.DialOptions(grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}))))
	_, err = testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
	if err == nil || !strings.Contains(err.Error(), "certificate is valid for evil, not test.echo") || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a call of an API that a registry value points elsewhere = %v", err)
	}
}
