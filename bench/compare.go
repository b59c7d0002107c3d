package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/onecall-dev/onecall/bench/internal/measure"
	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// deadline is the API's timeout, which the plain caller sets itself.
const deadline = 2 * time.Second

// payload is the size of the request and of the response, in bytes.
var payload = 50

// compare measures all ways with a number of concurrent callers.
func compare(ctx context.Context, self string, callers, turns int, length time.Duration) (ways []*measure.Way, err error) {
	plainServer, err := start(ctx, self, "plain")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, plainServer.Stop()) }()
	onecallServer, err := start(ctx, self, "onecall")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, onecallServer.Stop()) }()

	toPlain, err := dialPlain(plainServer.Address)
	if err != nil {
		return nil, err
	}
	defer toPlain.Close()
	toOnecall, err := dialPlain(onecallServer.Address)
	if err != nil {
		return nil, err
	}
	defer toOnecall.Close()
	// A plain server has no incarnation, so it is called without an identity.
	anonymous, err := newBus(plainServer.Address, "")
	if err != nil {
		return nil, err
	}
	defer anonymous.Close()
	bus, err := newBus(onecallServer.Address, onecallServer.incarnation)
	if err != nil {
		return nil, err
	}
	defer bus.Close()

	ways = []*measure.Way{
		{Name: "plain → plain", Server: plainServer.Server, Call: plainCall(toPlain)},
		{Name: "plain → Serve", Server: onecallServer.Server, Call: plainCall(toOnecall)},
		{Name: "Bus → plain", Server: plainServer.Server, Call: busCall(anonymous)},
		{Name: "Bus → Serve", Server: onecallServer.Server, Call: busCall(bus)},
		{Name: "by name", Server: onecallServer.Server, Call: namedCall(bus)},
	}
	return ways, measure.TakeTurns(ctx, ways, callers, turns, length)
}

// namedCall makes the same call by name.
func namedCall(bus *framework.Bus) func(context.Context) error {
	text := strings.Repeat("x", payload)
	return func(ctx context.Context) error {
		reply, err := bus.Call(ctx, api+".echo", framework.Args{"text": text})
		if err != nil {
			return err
		}
		var got string
		if err := reply.Into(&got); err != nil || got != text {
			return fmt.Errorf("the reply is %q: %w", got, err)
		}
		return nil
	}
}

func newBus(address, incarnation string, options ...framework.BusOption) (*framework.Bus, error) {
	return newBusOf(discovery.Instance{API: api, Address: address}, incarnation, options...)
}

func newBusOf(instance discovery.Instance, incarnation string, options ...framework.BusOption) (*framework.Bus, error) {
	if incarnation != "" {
		var err error
		if instance.Incarnation, err = discovery.ParseIncarnation(incarnation); err != nil {
			return nil, err
		}
	}
	registry := memory.New()
	if _, err := registry.Register(instance); err != nil {
		return nil, err
	}
	return framework.NewBus(registry, append([]framework.BusOption{quiet}, options...)...)
}

// quiet discards the log.
var quiet = framework.Logger(slog.New(slog.DiscardHandler))

func request() *testv1.EchoRequest { return &testv1.EchoRequest{Text: strings.Repeat("x", payload)} }

// dialPlain returns a connection of plain grpc-go.
func dialPlain(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func plainCall(conn *grpc.ClientConn) func(context.Context) error {
	client := testv1.NewEchoServiceClient(conn)
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, deadline)
		defer cancel()
		_, err := client.Echo(ctx, request())
		return err
	}
}

func busCall(bus *framework.Bus) func(context.Context) error {
	client := testv1.NewEchoServiceClient(bus)
	return func(ctx context.Context) error {
		_, err := client.Echo(ctx, request())
		return err
	}
}

// show prints the medians, and the ratios to the first way.
func show(callers int, ways []*measure.Way) error {
	fmt.Printf("\n%d callers, %d bytes, medians of %d turns\n", callers, payload, len(ways[0].Turns))
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "per call\t")
	for _, way := range ways {
		fmt.Fprintf(table, "%s\t", way.Name)
	}
	for _, way := range ways[1:] {
		fmt.Fprintf(table, "%s\t", "ratio, "+way.Name)
	}
	fmt.Fprintln(table)
	for _, figure := range measure.Figures {
		fmt.Fprintf(table, "%s\t", figure.Name)
		for _, way := range ways {
			fmt.Fprintf(table, "%.1f %s\t", way.Median(figure.Of), figure.Unit)
		}
		for _, way := range ways[1:] {
			fmt.Fprintf(table, "%.3f\t", way.Ratio(ways[0], figure.Of))
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}
