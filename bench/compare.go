package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// deadline is the API's timeout, which the plain caller sets itself.
const deadline = 2 * time.Second

// payload is the size of the request and of the response, in bytes.
var payload = 50

// way is a way to make the same call.
type way struct {
	name   string
	server *server
	call   func(context.Context) error
	turns  []turn
}

// turn is the average cost of a call over one turn.
type turn struct {
	wall, callerCPU, serverCPU   float64 // nanoseconds
	callerMallocs, serverMallocs float64
	callerBytes, serverBytes     float64
}

// figures are the printed figures of a turn.
var figures = []struct {
	name string
	unit string
	of   func(turn) float64
}{
	{"wall time", "µs", func(t turn) float64 { return t.wall / 1000 }},
	{"CPU, both", "µs", func(t turn) float64 { return (t.callerCPU + t.serverCPU) / 1000 }},
	{"CPU, caller", "µs", func(t turn) float64 { return t.callerCPU / 1000 }},
	{"CPU, server", "µs", func(t turn) float64 { return t.serverCPU / 1000 }},
	{"allocations, caller", "", func(t turn) float64 { return t.callerMallocs }},
	{"allocations, server", "", func(t turn) float64 { return t.serverMallocs }},
	{"bytes, caller", "", func(t turn) float64 { return t.callerBytes }},
	{"bytes, server", "", func(t turn) float64 { return t.serverBytes }},
}

// compare measures all ways with a number of concurrent callers.
func compare(ctx context.Context, self string, callers, turns int, length time.Duration) (ways []*way, err error) {
	plainServer, err := start(ctx, self, "plain")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, plainServer.stop()) }()
	onecallServer, err := start(ctx, self, "onecall")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, onecallServer.stop()) }()

	toPlain, err := dialPlain(plainServer.address)
	if err != nil {
		return nil, err
	}
	defer toPlain.Close()
	toOnecall, err := dialPlain(onecallServer.address)
	if err != nil {
		return nil, err
	}
	defer toOnecall.Close()
	// A plain server has no incarnation, so it is called without an identity.
	anonymous, err := newBus(plainServer.address, "")
	if err != nil {
		return nil, err
	}
	defer anonymous.Close()
	bus, err := newBus(onecallServer.address, onecallServer.incarnation)
	if err != nil {
		return nil, err
	}
	defer bus.Close()

	ways = []*way{
		{name: "plain → plain", server: plainServer, call: plainCall(toPlain)},
		{name: "plain → Serve", server: onecallServer, call: plainCall(toOnecall)},
		{name: "Bus → plain", server: plainServer, call: busCall(anonymous)},
		{name: "Bus → Serve", server: onecallServer, call: busCall(bus)},
		{name: "by name", server: onecallServer, call: namedCall(bus)},
	}
	return ways, takeTurns(ctx, ways, callers, turns, length)
}

// takeTurns measures ways by turns.
func takeTurns(ctx context.Context, ways []*way, callers, turns int, length time.Duration) error {
	for i := range turns + 1 {
		for j := range ways {
			way := ways[(i+j)%len(ways)]
			measured, err := way.measure(ctx, callers, length)
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			if i > 0 { // the first turn warms up
				way.turns = append(way.turns, measured)
			}
		}
	}
	return nil
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

// measure makes calls for a turn.
func (w *way) measure(ctx context.Context, callers int, length time.Duration) (turn, error) {
	serverBefore, err := w.server.used()
	if err != nil {
		return turn{}, err
	}
	callerBefore, begin := use(), time.Now()
	var (
		running sync.WaitGroup
		over    atomic.Bool
		calls   atomic.Int64
		failed  atomic.Pointer[error]
	)
	timer := time.AfterFunc(length, func() { over.Store(true) })
	defer timer.Stop()
	for range callers {
		running.Go(func() {
			made := int64(0)
			for !over.Load() {
				if err := w.call(ctx); err != nil {
					failed.Store(&err)
					break
				}
				made++
			}
			calls.Add(made)
		})
	}
	running.Wait()
	wall, callerAfter := time.Since(begin), use()
	if err := failed.Load(); err != nil {
		return turn{}, *err
	}
	serverAfter, err := w.server.used()
	if err != nil {
		return turn{}, err
	}
	measured := costOf(calls.Load(), callerAfter.since(callerBefore), serverAfter.since(serverBefore))
	measured.wall = float64(wall) * float64(callers) / float64(calls.Load())
	return measured, nil
}

// costOf returns the average cost of calls from what both processes used for all.
func costOf(calls int64, caller, server usage) turn {
	n := float64(calls)
	return turn{
		callerCPU: float64(caller.CPU) / n, serverCPU: float64(server.CPU) / n,
		callerMallocs: float64(caller.Mallocs) / n, serverMallocs: float64(server.Mallocs) / n,
		callerBytes: float64(caller.Bytes) / n, serverBytes: float64(server.Bytes) / n,
	}
}

// show prints the medians, and the ratios to the first way.
func show(callers int, ways []*way) error {
	fmt.Printf("\n%d callers, %d bytes, medians of %d turns\n", callers, payload, len(ways[0].turns))
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "per call\t")
	for _, way := range ways {
		fmt.Fprintf(table, "%s\t", way.name)
	}
	for _, way := range ways[1:] {
		fmt.Fprintf(table, "%s\t", "ratio, "+way.name)
	}
	fmt.Fprintln(table)
	for _, figure := range figures {
		fmt.Fprintf(table, "%s\t", figure.name)
		for _, way := range ways {
			fmt.Fprintf(table, "%.1f %s\t", median(way.turns, figure.of), figure.unit)
		}
		for _, way := range ways[1:] {
			fmt.Fprintf(table, "%.3f\t", way.ratio(ways[0], figure.of))
		}
		fmt.Fprintln(table)
	}
	return table.Flush()
}

// ratio returns the median of the ratios of a figure to that of another way in each turn.
func (w *way) ratio(to *way, of func(turn) float64) float64 {
	ratios := make([]float64, len(w.turns))
	for i := range w.turns {
		ratios[i] = of(w.turns[i]) / of(to.turns[i])
	}
	return middle(ratios)
}

func median(turns []turn, of func(turn) float64) float64 {
	values := make([]float64, len(turns))
	for i, t := range turns {
		values[i] = of(t)
	}
	return middle(values)
}

func middle(values []float64) float64 {
	slices.Sort(values)
	if half := len(values) / 2; len(values)%2 == 0 {
		return (values[half-1] + values[half]) / 2
	}
	return values[len(values)/2]
}
