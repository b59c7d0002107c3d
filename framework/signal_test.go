package framework_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// signalEnv makes the test's program serve, and call itself, until a signal ends it.
const signalEnv = "ONECALL_TEST_SERVE_UNTIL_SIGNAL"

// handlerRuns is the text that the program prints when the handler of its call runs.
const handlerRuns = "the handler runs"

// serveUntilSignal runs in a process of its own, and serves as the README's service does.
// The handler of its only call never returns.
func serveUntilSignal() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop)
	registry := memory.New()
	bus, err := framework.NewBus(registry, quiet)
	if err == nil {
		go func() {
			err := bus.Ready(context.Background(), "test.echo")
			if err == nil {
				_, err = testv1.NewEchoServiceClient(bus).Echo(context.Background(), &testv1.EchoRequest{}, framework.Timeout(time.Hour))
			}
			fmt.Println("the call returned", err)
		}()
		err = framework.Serve(ctx, registry, (&echo{echo: func(context.Context, string) (string, error) {
			fmt.Println(handlerRuns)
			select {}
		}}).register, framework.ShutdownTimeout(time.Hour), framework.Logger(slog.New(slog.NewTextHandler(os.Stdout, nil))))
	}
	fmt.Println("Serve returned", err)
	return 1
}
