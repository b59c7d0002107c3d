package spiffe_test

import (
	"context"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/spiffe"
)

// both serves APIs and returns a bus, with the certificates that an agent of SPIRE issues.
// The environment has the address of the agent in SPIFFE_ENDPOINT_SOCKET.
func both(ctx context.Context, registry discovery.Registry, register func(grpc.ServiceRegistrar)) (*framework.Service, *framework.Bus, error) {
	source, err := workloadapi.NewX509Source(ctx)
	if err != nil {
		return nil, nil, err
	}
	domain := spiffeid.RequireTrustDomainFromString("example.org")
	service, err := framework.Start(ctx, registry, register, spiffe.Service(source, tlsconfig.AuthorizeMemberOf(domain)))
	if err != nil {
		return nil, nil, err
	}
	bus, err := framework.NewBus(registry, spiffe.Bus(source, spiffe.InDomain(domain, "apis")))
	return service, bus, err
}

func ExampleInDomain() {
	_ = both
	id := spiffe.InDomain(spiffeid.RequireTrustDomainFromString("example.org"), "apis")
	fmt.Println(id("auth"))
	fmt.Println(id("test.echo"))
	// Output:
	// spiffe://example.org/apis/auth <nil>
	// spiffe://example.org/apis/test.echo <nil>
}
