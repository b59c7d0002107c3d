package framework_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// TestASettledErrorIsTheOneThatWasSent has handlers end in ways whose cause no caller may
// see, after the caller's time has passed.
func TestASettledErrorIsTheOneThatWasSent(t *testing.T) {
	t.Parallel()
	for title, end := range map[string]func() error{
		"an error without a status": func() error { return errors.New("a secret") },
		"a panic":                   func() error { panic("a secret") },
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			letGo := make(chan struct{}, 16)
			waits := func(context.Context, string) (string, error) {
				<-letGo
				return "", end()
			}
			registry := memory.New()
			serve(t, registry, &echo{soon: waits, watch: func(testv1.EchoService_WatchServer) error {
				<-letGo
				return end()
			}})
			bus := newBus(t, registry)
			ready(t, bus, "test.echo")
			want := func(failed error) {
				t.Helper()
				letGo <- struct{}{}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				err := bus.Settle(ctx, failed, nil)
				if status.Code(err) != codes.Internal || framework.OutcomeOf(err) != framework.Executed || strings.Contains(err.Error(), "secret") {
					t.Errorf("Settle = %v, want INTERNAL, executed, without its cause", err)
				}
			}
			want(timedOut(t, bus))
			ctx, cancel := context.WithTimeout(t.Context(), short)
			defer cancel()
			stream, err := testv1.NewEchoServiceClient(bus).Watch(ctx, &testv1.WatchRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			if framework.OutcomeOf(err) == framework.Unknown { // else the machine is busy
				want(err)
			}
		})
	}
}

// TestAPanicOfAuthenticationIsRecoveredForASettle has the program's authentication panic.
func TestAPanicOfAuthenticationIsRecoveredForASettle(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{}, framework.Authenticate(func(context.Context) (context.Context, error) { panic("no") }))
	_, instance := direct(t, registry)
	_, err := onecallv1.NewCallsClient(dialled(t, instance.Address)).Settle(t.Context(), &onecallv1.SettleRequest{})
	if status.Code(err) != codes.Internal {
		t.Errorf("error = %v, want INTERNAL", err)
	}
}
