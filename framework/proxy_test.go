package framework_test

import (
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/faulty/peer"
	"github.com/onecall-dev/onecall/internal/grpctest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestAProxyOfTheEnvironmentIsNotUsed(t *testing.T) { //nolint:paralleltest // the process that runs its body has nothing else to do
	grpctest.UnderProxy(t, func() {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		p := peer.Serve(listener, peer.Config{}, good)
		defer p.Close()
		_, port, err := net.SplitHostPort(p.Address())
		if err != nil {
			t.Fatal(err)
		}
		registry := memory.New()
		// Only the name in small letters is never looked up at a proxy.
		if _, err := registry.Register(discovery.Instance{API: "test.echo", Address: "LOCALHOST:" + port, Incarnation: discovery.NewIncarnation(), State: discovery.Serving}); err != nil {
			t.Fatal(err)
		}
		if _, err := testv1.NewEchoServiceClient(newBus(t, registry)).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
			t.Fatal(err)
		}
		for _, request := range p.Requests() {
			if _, err := atmostonce.ParseIdentity(request.Identity()); err != nil {
				t.Errorf("a call arrived without an identity: %v", err)
			}
		}
	})
}

func TestDialOptionsCannotReplaceTheResolver(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	p := scripted(t, registry, good)
	other := manual.NewBuilderWithScheme("onecall")
	other.InitialState(resolver.State{Endpoints: []resolver.Endpoint{{Addresses: []resolver.Address{{Addr: "127.0.0.1:9"}}}}})
	bus := newBus(t, registry, framework.DialOptions(grpc.WithResolvers(other)))
	if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil || arrived(p) != 1 {
		t.Errorf("the call = %v, %d requests arrived", err, arrived(p))
	}
}

func TestCredentialsMayComeAsABundle(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	p := scripted(t, registry, good)
	bus := newBus(t, registry, framework.DialOptions(grpc.WithCredentialsBundle(insecure.NewBundle())))
	if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil || arrived(p) != 1 {
		t.Errorf("the call = %v, %d requests arrived", err, arrived(p))
	}
}
