package framework_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// TestASettledErrorIsTheOneThatWasSent has handlers end in ways whose cause no caller may
// see, after their caller has canceled the call.
func TestASettledErrorIsTheOneThatWasSent(t *testing.T) {
	t.Parallel()
	for title, end := range map[string]func() error{
		"an error without a status": func() error { return errors.New("a secret") },
		"a panic":                   func() error { panic("a secret") },
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			began, letGo := make(chan struct{}), make(chan struct{})
			waits := func(context.Context, string) (string, error) {
				began <- struct{}{}
				<-letGo
				return "", end()
			}
			registry := memory.New()
			serve(t, registry, &echo{soon: waits, watch: func(testv1.EchoService_WatchServer) error {
				_, err := waits(context.Background(), "")
				return err
			}})
			bus := newBus(t, registry)
			ready(t, bus, "test.echo")
			client := testv1.NewEchoServiceClient(bus)
			want := func(call func(ctx context.Context) error) {
				t.Helper()
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-began
					cancel()
				}()
				failed := call(ctx)
				letGo <- struct{}{}
				err := bus.Settle(eventually.Context(t), failed, nil)
				if status.Code(err) != codes.Internal || framework.OutcomeOf(err) != framework.Executed || strings.Contains(err.Error(), "secret") {
					t.Errorf("Settle = %v, want INTERNAL, executed, without its cause", err)
				}
			}
			want(func(ctx context.Context) error {
				_, err := client.EchoSoon(ctx, &testv1.EchoSoonRequest{})
				return err
			})
			want(func(ctx context.Context) error {
				stream, err := client.Watch(ctx, &testv1.WatchRequest{})
				if err == nil {
					_, err = stream.Recv()
				}
				return err
			})
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
