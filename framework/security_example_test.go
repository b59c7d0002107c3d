package framework_test

import (
	"context"
	"fmt"
	"log"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
)

func ExampleTLS() {
	ctx, registry := context.Background(), memory.New()
	files := framework.TLSFiles{CA: "/etc/onecall/ca.crt", Cert: "/etc/onecall/tls.crt", Key: "/etc/onecall/tls.key"}
	_, err := framework.Start(ctx, registry, registerAuth, framework.ListenOn(":8443"), framework.TLS(files))
	fmt.Println(err)
	_, err = framework.NewBus(registry, framework.TLS(files))
	fmt.Println(err)
	// Output:
	// onecall: service: option TLS: open /etc/onecall/tls.crt: no such file or directory
	// open /etc/onecall/ca.crt: no such file or directory
	// onecall: bus: option TLS: open /etc/onecall/tls.crt: no such file or directory
	// open /etc/onecall/ca.crt: no such file or directory
}

func ExampleAuthorize() {
	ctx, registry := context.Background(), memory.New()
	// authenticate is an AuthFunc of go-grpc-middleware. Its tokens are the names of programs.
	authenticate := func(ctx context.Context) (context.Context, error) {
		token, err := auth.AuthFromMD(ctx, "bearer")
		if err != nil {
			return nil, status.Error(codes.Unauthenticated, "no token")
		}
		return framework.WithPrincipal(ctx, token), nil
	}
	service, err := framework.Start(ctx, registry, registerAuth, quiet,
		framework.BeforeAdmission(auth.UnaryServerInterceptor(authenticate), auth.StreamServerInterceptor(authenticate)),
		framework.Authorize(framework.Policy{"auth.check_password": {"shop"}}))
	if err != nil {
		log.Fatal(err)
	}
	for _, token := range []string{"shop", "mail"} {
		err := checkPassword(metadata.AppendToOutgoingContext(ctx, "authorization", "bearer "+token), registry)
		fmt.Println(token+":", err, framework.OutcomeOf(err))
	}
	fmt.Println(service.Stop(ctx))
	// Output:
	// the handler runs
	// shop: <nil> the call ran
	// mail: auth.check_password: the policy of the service does not allow this call to its caller (the call was refused and did not run) the call was refused and did not run
	// <nil>
}
