package snippets_test

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onecall-dev/onecall/discovery"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	docsv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/docs/v1"
)

// orders serves the API orders, and calls the API auth.
type orders struct {
	docsv1.UnimplementedOrdersServiceServer

	auth authv1.AuthServiceClient

	mu     sync.Mutex
	placed map[string]time.Time
}

// PlaceOrder places an order, and returns the earlier result if it is a repeat.
func (o *orders) PlaceOrder(_ context.Context, req *docsv1.PlaceOrderRequest) (*docsv1.PlaceOrderResponse, error) {
	o.mu.Lock() // with a database: one transaction, and a unique index of the ids
	defer o.mu.Unlock()
	placed, known := o.placed[req.GetOrderId()]
	if !known {
		placed = time.Now()
		o.placed[req.GetOrderId()] = placed
	}
	return &docsv1.PlaceOrderResponse{PlacedAt: timestamppb.New(placed)}, nil
}

// ResetPassword calls the API auth, with the context of the call that it serves.
func (o *orders) ResetPassword(ctx context.Context, req *docsv1.ResetPasswordRequest) (*docsv1.ResetPasswordResponse, error) {
	reply, err := o.auth.ResetPassword(ctx, &authv1.ResetPasswordRequest{Username: usernameOf(req.GetCustomerId())})
	if status.Code(err) == codes.NotFound {
		// For the caller this is another error: it passed the id of a customer.
		return nil, status.Error(codes.FailedPrecondition, "the customer has no account")
	}
	if err != nil {
		return nil, err
	}
	return &docsv1.ResetPasswordResponse{Password: reply.GetPassword()}, nil
}

// usernameOf returns the account of a customer.
func usernameOf(customer int64) string { return map[int64]string{1: "adam"}[customer] }

// serveOrders serves orders until ctx ends. One registry and one bus are enough for a process.
func serveOrders(ctx context.Context, registry discovery.Registry) error {
	bus, err := framework.NewBus(registry, framework.FromEnv())
	if err != nil {
		return err
	}
	defer bus.Close() // after Serve has returned, so handlers can call to the end
	return framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
		docsv1.RegisterOrdersServiceServer(apis, &orders{auth: authv1.NewAuthServiceClient(bus), placed: make(map[string]time.Time)})
	}, framework.FromEnv())
}
