package framework_test

import (
	"context"
	"fmt"
	"log"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
)

// This prints the places of a service's chain in the order in which they run, with the
// places of a program's interceptors.
func Example_chain() {
	for _, place := range framework.Places() {
		fmt.Println(place)
	}
	// Output:
	// recovery
	// observation
	// before admission
	// admission
	// limits
	// authorization
	// after admission
	// deadline
	// the program's own
	// rules
	// handler
}

// authServer is a service that accepts every password.
type authServer struct {
	authv1.UnimplementedAuthServiceServer
}

// CheckPassword implements authv1.AuthServiceServer.
func (authServer) CheckPassword(context.Context, *authv1.CheckPasswordRequest) (*authv1.CheckPasswordResponse, error) {
	fmt.Println("the handler runs")
	return &authv1.CheckPasswordResponse{Valid: true}, nil
}

func registerAuth(apis grpc.ServiceRegistrar) { authv1.RegisterAuthServiceServer(apis, authServer{}) }

// saying returns interceptors that print the place where they run.
func saying(place string) (grpc.UnaryServerInterceptor, grpc.StreamServerInterceptor) {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			fmt.Println(place)
			return handler(ctx, req)
		}, func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, stream)
		}
}

// checkPassword makes one call of a service on a registry.
func checkPassword(ctx context.Context, registry *memory.Registry) error {
	bus, err := framework.NewBus(registry, quiet)
	if err != nil {
		return err
	}
	defer bus.Close()
	if err := bus.Ready(ctx, "auth"); err != nil {
		return err
	}
	_, err = authv1.NewAuthServiceClient(bus).CheckPassword(ctx, &authv1.CheckPasswordRequest{Username: "adam", Password: "?"})
	return err
}

func ExampleAfterAdmission() {
	ctx, registry := context.Background(), memory.New()
	own, _ := saying("the program's own")
	service, err := framework.Start(ctx, registry, registerAuth, quiet,
		framework.BeforeAdmission(saying("before admission")),
		framework.AfterAdmission(saying("after admission")),
		framework.ServerOptions(grpc.ChainUnaryInterceptor(own)))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(checkPassword(ctx, registry))
	fmt.Println(service.Stop(ctx))
	// Output:
	// before admission
	// after admission
	// the program's own
	// the handler runs
	// <nil>
	// <nil>
}

func ExampleBeforeAdmission() {
	ctx, registry := context.Background(), memory.New()
	// authenticate is an AuthFunc of go-grpc-middleware.
	authenticate := func(ctx context.Context) (context.Context, error) {
		token, err := auth.AuthFromMD(ctx, "bearer")
		if err != nil {
			return nil, err
		}
		if token != "swordfish" {
			return nil, status.Error(codes.Unauthenticated, "the token is wrong")
		}
		return framework.WithPrincipal(ctx, "the-shop"), nil
	}
	service, err := framework.Start(ctx, registry, registerAuth, quiet,
		framework.BeforeAdmission(auth.UnaryServerInterceptor(authenticate), auth.StreamServerInterceptor(authenticate)))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(checkPassword(ctx, registry))
	fmt.Println(checkPassword(metadata.AppendToOutgoingContext(ctx, "authorization", "bearer swordfish"), registry))
	fmt.Println("sessions:", service.Stats().Sessions)
	fmt.Println(service.Stop(ctx))
	// Output:
	// rpc error: code = Unauthenticated desc = Request unauthenticated with bearer
	// the handler runs
	// <nil>
	// sessions: 1
	// <nil>
}
