package snippets_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	docsv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/docs/v1"
)

// errAskAPerson says that a person must find out what happened.
var errAskAPerson = errors.New("it cannot be found out whether the items were added")

// addToOrder adds items to an order. Its error says what the caller can do.
func addToOrder(ctx context.Context, bus *framework.Bus, request *docsv1.AddToOrderRequest) (added bool, err error) {
	_, err = docsv1.NewOrdersServiceClient(bus).AddToOrder(ctx, request)
	if err != nil && framework.OutcomeOf(err) == framework.Unknown {
		// Ask the instance. If it has not seen the call, it refuses it from now on.
		settle, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = bus.Settle(settle, err, nil)
	}
	switch framework.OutcomeOf(err) {
	case framework.Executed:
		return err == nil, err // it ran, and err is the handler's error
	case framework.NotSent, framework.Refused:
		return false, err // it never runs: it can be called again
	default:
		return false, errors.Join(errAskAPerson, err)
	}
}

// adder counts how often items were added.
type adder struct {
	docsv1.UnimplementedOrdersServiceServer

	added int
}

func (a *adder) AddToOrder(ctx context.Context, _ *docsv1.AddToOrderRequest) (*docsv1.AddToOrderResponse, error) {
	a.added++
	return &docsv1.AddToOrderResponse{Items: int32(a.added)}, ctx.Err()
}

func TestAnUnknownOutcomeIsSettled(t *testing.T) {
	t.Parallel()
	request := &docsv1.AddToOrderRequest{
		OrderId: "0d8b0e6f-1f5c-4a8e-9d3e-0c6a2a1f7b11", Items: []*docsv1.Item{{ArticleId: 7, Quantity: 1}},
	}
	for name, test := range map[string]struct {
		fault     frameworktest.Fault
		added     bool
		runs      int
		forgotten bool
	}{
		"the reply is late":          {frameworktest.Slow(3 * time.Second), true, 1, false},
		"the connection breaks":      {frameworktest.ReplySettled(), true, 1, false},
		"the instance was restarted": {frameworktest.ReplyLost(), false, 1, true},
		"the instance is gone":       {frameworktest.InstanceGone(), false, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				service := &adder{}
				kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) { docsv1.RegisterOrdersServiceServer(apis, service) })
				kit.Inject(docsv1.NewOrdersServiceClient(kit).AddToOrder, test.fault)
				added, err := addToOrder(t.Context(), kit.Bus(), request)
				if added != test.added || errors.Is(err, errAskAPerson) != test.forgotten || errors.Is(err, framework.ErrForgotten) != test.forgotten || service.added != test.runs {
					t.Errorf("addToOrder = %v, %v, after %d runs", added, err, service.added)
				}
			})
		})
	}
}

// TestARepeatIsRecognized repeats a call whose reply was lost, with the same id.
func TestARepeatIsRecognized(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := &orders{placed: make(map[string]time.Time)}
		kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) { docsv1.RegisterOrdersServiceServer(apis, service) })
		client := docsv1.NewOrdersServiceClient(kit)
		kit.Inject(client.PlaceOrder, frameworktest.ReplyLost())
		request := &docsv1.PlaceOrderRequest{
			OrderId: "0d8b0e6f-1f5c-4a8e-9d3e-0c6a2a1f7b11", CustomerId: 1, AgreedCents: 100, Items: []*docsv1.Item{{ArticleId: 7, Quantity: 1}},
		}
		reply, err := client.PlaceOrder(t.Context(), request)
		if err != nil || len(service.placed) != 1 || !reply.GetPlacedAt().AsTime().Equal(service.placed[request.GetOrderId()]) {
			t.Errorf("PlaceOrder = %v, %v, and there are %d orders", reply, err, len(service.placed))
		}
	})
}
