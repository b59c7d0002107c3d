package framework_test

import (
	"testing"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestCallsTakeNoLockOfTheBus makes calls while another goroutine holds all locks.
func TestCallsTakeNoLockOfTheBus(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	serveForeign(t, registry)
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	for name, call := range map[string]func() error{
		"of a generated client": func() error {
			_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
			return err
		},
		"by name, of an API that is linked in": func() error {
			_, err := bus.Call(t.Context(), "test.echo.echo", framework.Args{"text": "x"})
			return err
		},
		"by name, with a schema of the registry": func() error {
			_, err := bus.Call(t.Context(), "shop.items.find_item", framework.Args{"name": "lamp", "most": 1})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := call(); err != nil {
				t.Fatal(err)
			}
			framework.WhileLocked(bus, func() {
				if err := call(); err != nil {
					t.Errorf("while the locks are held: %v", err)
				}
			})
		})
	}
}
