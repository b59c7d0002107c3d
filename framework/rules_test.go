package framework_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/validate"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// tooLong is a text that breaks the rule of Echo's request.
var tooLong = strings.Repeat("x", 65537)

func TestARequestThatBreaksRulesIsNotSent(t *testing.T) {
	t.Parallel()
	var runs atomic.Int64
	registry := memory.New()
	serve(t, registry, &echo{echo: counting(&runs)})
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{Text: tooLong})
	var invalid *validate.Error
	if status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) != framework.NotSent || !errors.As(err, &invalid) || invalid.Violations[0].Field != "text" {
		t.Errorf("a request with a text that is too long = %v", err)
	}
	if !strings.HasPrefix(err.Error(), "test.echo.echo: ") || !strings.HasSuffix(err.Error(), "(the call was not sent)") {
		t.Errorf("the error is %q", err)
	}
	// Nobody is asked, found or dialled for it.
	_, err = testv1.NewEchoServiceClient(newBus(t, untouched{told{}, t})).Echo(t.Context(), &testv1.EchoRequest{Text: tooLong})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("the same on a registry that must not be asked = %v", err)
	}

	// A caller without the rules is told by the server, which goes on.
	client, _ := direct(t, registry)
	_, err = client.Echo(t.Context(), &testv1.EchoRequest{Text: tooLong})
	found := false
	for _, detail := range status.Convert(err).Details() {
		if request, ok := detail.(*errdetails.BadRequest); ok {
			found = len(request.GetFieldViolations()) == 1 && request.GetFieldViolations()[0].GetField() == "text"
		}
	}
	if status.Code(err) != codes.InvalidArgument || !found {
		t.Errorf("the same of a plain gRPC client = %v, with %v", err, status.Convert(err).Details())
	}
	if runs.Load() != 0 {
		t.Errorf("the handler ran %d times for requests that break rules", runs.Load())
	}
	if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil || runs.Load() != 1 {
		t.Errorf("a good request after it = %v", err)
	}
}

// untouched is a registry that must not be asked.
type untouched struct {
	told

	t *testing.T
}

func (u untouched) Watch(api string, _ func(discovery.Snapshot)) func() {
	u.t.Errorf("the registry was asked for %s", api)
	return func() {}
}

// rules serves RulesService.
type rules struct {
	testv1.UnimplementedRulesServiceServer
}

func (rules) Check(context.Context, *testv1.CheckRequest) (*testv1.CheckResponse, error) {
	return nil, nil //nolint:nilnil // which is what is tested
}

func TestAHandlerThatRepliesWithNothingIsToldAndServedOn(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() {
		returned <- framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) { testv1.RegisterRulesServiceServer(apis, rules{}) }, quiet)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-returned; err != nil {
			t.Error(err)
		}
	})
	bus := newBus(t, registry)
	ready(t, bus, "test.rules")
	for range 2 {
		_, err := testv1.NewRulesServiceClient(bus).Check(t.Context(), &testv1.CheckRequest{Username: "admin", Password: "long enough"})
		if status.Code(err) != codes.Internal || framework.OutcomeOf(err) != framework.Executed {
			t.Errorf("a handler that returns nil = %v (%v), want INTERNAL of a call that ran", err, framework.OutcomeOf(err))
		}
	}
}
