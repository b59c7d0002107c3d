package snippets_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	docsv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/docs/v1"
)

// TestAHandlerCallsAnotherService serves both sides in a kit.
func TestAHandlerCallsAnotherService(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, nil)
	kit.Serve(func(apis grpc.ServiceRegistrar) {
		docsv1.RegisterOrdersServiceServer(apis, &orders{auth: authv1.NewAuthServiceClient(kit)})
	})
	auth := authv1.NewAuthServiceClient(kit)
	frameworktest.Fake(kit, auth.ResetPassword, func(_ context.Context, request *authv1.ResetPasswordRequest) (*authv1.ResetPasswordResponse, error) {
		if request.GetUsername() != "adam" {
			return nil, status.Error(codes.NotFound, "no such account")
		}
		return &authv1.ResetPasswordResponse{Password: "new"}, nil
	})
	orders := docsv1.NewOrdersServiceClient(kit)
	reply, err := orders.ResetPassword(t.Context(), &docsv1.ResetPasswordRequest{CustomerId: 1})
	if err != nil || reply.GetPassword() != "new" {
		t.Errorf("ResetPassword = %v, %v", reply, err)
	}
}

// TestTheDeadlineGoesToTheInnerCall looks at what the inner handler has left.
func TestTheDeadlineGoesToTheInnerCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		kit := frameworktest.New(t, nil)
		kit.Serve(func(apis grpc.ServiceRegistrar) {
			docsv1.RegisterOrdersServiceServer(apis, &orders{auth: authv1.NewAuthServiceClient(kit)})
		})
		auth := authv1.NewAuthServiceClient(kit)
		frameworktest.Fake(kit, auth.ResetPassword, func(ctx context.Context, _ *authv1.ResetPasswordRequest) (*authv1.ResetPasswordResponse, error) {
			if deadline, _ := ctx.Deadline(); time.Until(deadline) > 700*time.Millisecond {
				t.Errorf("the inner call has %v", time.Until(deadline))
			}
			return nil, status.Error(codes.NotFound, "no such account")
		})
		_, err := docsv1.NewOrdersServiceClient(kit).ResetPassword(t.Context(), &docsv1.ResetPasswordRequest{CustomerId: 1}, framework.Timeout(700*time.Millisecond))
		if status.Code(err) != codes.FailedPrecondition || framework.OutcomeOf(err) != framework.Executed {
			t.Errorf("ResetPassword = %v", err)
		}
	})
}

// TestServeOrdersServesUntilItsContextEnds runs the program of the page.
func TestServeOrdersServesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	registry, returned := memory.New(), make(chan error, 1)
	go func() { returned <- serveOrders(ctx, registry) }()
	bus, err := framework.NewBus(registry)
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	if err := bus.Ready(t.Context(), "orders"); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-returned; err != nil {
		t.Error(err)
	}
}
