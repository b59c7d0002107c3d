package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/bench/internal/measure"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// The gate compares what a call allocates with committed figures. A count is the same on a
// busy machine and on an idle one.
//
// For that, both processes run on one core and without the garbage collector, which
// empties the pools from which grpc-go takes buffers. Calls are made one after the other.
// The least of several turns counts, because what runs beside the calls, such as a ping of
// the connection, only adds.
const (
	gateCalls = 1000 // in a turn, and before the first
	gateTurns = 4

	// slack and slackBytes are by how much a figure may differ from the committed one.
	// What a call allocates, or does not, makes a difference of one.
	slack, slackBytes = 0.2, 32

	// ratioSlack is by which part the ratio of CPU may exceed the committed one in all of
	// ratioTries runs. Noise seldom makes three runs slow.
	ratioSlack   = 0.15
	ratioTries   = 3
	ratioTurns   = 30
	ratioLength  = 100 * time.Millisecond
	ratioCallers = 16
)

// allocated is what a call allocates at the caller and at the server.
type allocated struct {
	CallerAllocations float64 `json:"callerAllocations"`
	ServerAllocations float64 `json:"serverAllocations"`
	CallerBytes       float64 `json:"callerBytes"`
	ServerBytes       float64 `json:"serverBytes"`
}

// least returns the lower one of each figure.
func (a allocated) least(b allocated) allocated {
	return allocated{
		min(a.CallerAllocations, b.CallerAllocations), min(a.ServerAllocations, b.ServerAllocations),
		min(a.CallerBytes, b.CallerBytes), min(a.ServerBytes, b.ServerBytes),
	}
}

// near reports whether the figures are equal but for noise.
func (a allocated) near(b allocated) bool {
	return math.Abs(a.CallerAllocations-b.CallerAllocations) <= slack && math.Abs(a.ServerAllocations-b.ServerAllocations) <= slack &&
		math.Abs(a.CallerBytes-b.CallerBytes) <= slackBytes && math.Abs(a.ServerBytes-b.ServerBytes) <= slackBytes
}

// costs are the figures of a file.
type costs struct {
	// Go and GRPC are the versions with which they were counted.
	Go   string `json:"go"`
	GRPC string `json:"grpc"`
	// PerCall has what each way allocates.
	PerCall map[string]allocated `json:"perCall"`
	// CPU is the CPU time of a call on a bus, of both processes, for 1 on plain grpc-go.
	CPU float64 `json:"cpu"`
}

// gated is a way to call whose cost is committed.
type gated struct {
	name, serve string
	options     []framework.BusOption
	call        func(*framework.Bus) func(context.Context) error // nil for plain grpc-go
}

// gatedWays returns plain grpc-go, a call on a bus, and others.
func gatedWays() []gated {
	return []gated{
		{name: "plain grpc-go", serve: "plain"},
		{name: "call", serve: "onecall", call: busCall},
		{name: "call by name", serve: "onecall", call: namedCall},
		{name: "call with metrics", serve: "metrics", options: servingOf("metrics").busOptions(), call: busCall},
		{name: "stream", serve: "onecall", call: streamCall},
	}
}

// gate returns an error if a call does not cost what a file says. With update, it writes
// the file instead. timed says that CPU time counts too.
func gate(ctx context.Context, self, file string, update, timed bool) error {
	committed, err := readCosts(file)
	if err != nil && !update {
		return err
	}
	found := costs{Go: runtime.Version(), GRPC: grpc.Version, CPU: committed.CPU}
	if found.PerCall, err = countAll(ctx, self); err != nil {
		return err
	}
	if timed {
		if found.CPU, err = leastRatio(ctx, self, committed.CPU*(1+ratioSlack)); err != nil {
			return err
		}
	}
	if update {
		return found.write(file)
	}
	return found.check(os.Stdout, committed)
}

func readCosts(file string) (read costs, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return read, err
	}
	if err := json.Unmarshal(data, &read); err != nil {
		return read, fmt.Errorf("%s: %w", file, err)
	}
	return read, nil
}

func (c costs) write(file string) error {
	for name, found := range c.PerCall {
		c.PerCall[name] = allocated{tenths(found.CallerAllocations), tenths(found.ServerAllocations), math.Round(found.CallerBytes), math.Round(found.ServerBytes)}
	}
	c.CPU = math.Round(c.CPU*100) / 100
	data, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(data, '\n'), 0o644)
}

func tenths(x float64) float64 { return math.Round(x*10) / 10 }

// check prints the figures, and returns an error if they are not the committed ones.
func (c costs) check(out io.Writer, committed costs) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "per call\tallocations, caller\tserver\tbytes, caller\tserver\tcommitted")
	var wrong []error
	for _, way := range gatedWays() {
		found, want := c.PerCall[way.name], committed.PerCall[way.name]
		fmt.Fprintf(table, "%s\t%.1f\t%.1f\t%.0f\t%.0f\t%.1f %.1f %.0f %.0f\n", way.name, found.CallerAllocations, found.ServerAllocations, found.CallerBytes, found.ServerBytes,
			want.CallerAllocations, want.ServerAllocations, want.CallerBytes, want.ServerBytes)
		if !found.near(want) {
			wrong = append(wrong, fmt.Errorf("a %s does not allocate what is committed", way.name))
		}
	}
	if c.CPU != committed.CPU {
		fmt.Fprintf(table, "CPU, ratio to plain grpc-go\t%.3f\t\t\t\t%.2f\n", c.CPU, committed.CPU)
	}
	if c.CPU > committed.CPU*(1+ratioSlack) {
		wrong = append(wrong, errors.New("a call needs more CPU than is committed"))
	}
	if err := errors.Join(append(wrong, table.Flush())...); err != nil {
		return fmt.Errorf("counted with %s and grpc-go %s, committed with %s and grpc-go %s: %w", c.Go, c.GRPC, committed.Go, committed.GRPC, err)
	}
	return nil
}

// countAll counts the allocations of all ways.
func countAll(ctx context.Context, self string) (map[string]allocated, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	counted := make(map[string]allocated)
	for _, way := range gatedWays() {
		found, err := way.count(ctx, self)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", way.name, err)
		}
		counted[way.name] = found
		runtime.GC()
	}
	return counted, nil
}

// count counts the allocations of a way.
func (g gated) count(ctx context.Context, self string) (least allocated, err error) {
	server, err := start(ctx, self, g.serve, "GOGC=off", "GOMAXPROCS=1")
	if err != nil {
		return least, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	call, end, err := g.open(server)
	if err != nil {
		return least, err
	}
	defer func() { err = errors.Join(err, end()) }()
	way := measure.Way{Server: server.Server, Call: call}
	least = allocated{math.Inf(1), math.Inf(1), math.Inf(1), math.Inf(1)}
	for turn := range 1 + gateTurns {
		used, err := way.Calls(ctx, gateCalls)
		if err != nil {
			return least, err
		}
		if turn > 0 { // the first turn warms up
			least = least.least(allocated{used.CallerMallocs, used.ServerMallocs, used.CallerBytes, used.ServerBytes})
		}
	}
	return least, nil
}

// open returns the call of a way, and what ends its connections.
func (g gated) open(server *server) (call func(context.Context) error, end func() error, err error) {
	if g.call == nil {
		conn, err := dialPlain(server.Address)
		if err != nil {
			return nil, nil, err
		}
		return plainCall(conn), conn.Close, nil
	}
	bus, err := newBus(server.Address, server.incarnation, g.options...)
	if err != nil {
		return nil, nil, err
	}
	return g.call(bus), bus.Close, nil
}

// streamCall receives one message from a stream.
func streamCall(bus *framework.Bus) func(context.Context) error {
	client := testv1.NewEchoServiceClient(bus)
	return func(ctx context.Context) error {
		stream, err := client.Watch(ctx, &testv1.WatchRequest{Text: strings.Repeat("x", payload), Count: 1})
		if err != nil {
			return err
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			return fmt.Errorf("the stream does not end: %w", err)
		}
		return nil
	}
}

// leastRatio returns the first ratio of CPU that is not above a limit, else the least one.
func leastRatio(ctx context.Context, self string, limit float64) (least float64, err error) {
	least = math.Inf(1)
	for range ratioTries {
		ratio, err := ratioOfCPU(ctx, self, ratioTurns, ratioLength)
		if err != nil {
			return 0, err
		}
		if least = min(least, ratio); least <= limit {
			break
		}
	}
	return least, nil
}

// ratioOfCPU returns the CPU time of a call on a bus, of both processes, for 1 on plain
// grpc-go.
func ratioOfCPU(ctx context.Context, self string, turns int, length time.Duration) (ratio float64, err error) {
	var ways []*measure.Way
	var closers []func() error
	defer func() {
		for _, closer := range closers {
			err = errors.Join(err, closer())
		}
	}()
	for _, of := range gatedWays()[:2] {
		server, err := start(ctx, self, of.serve)
		if err != nil {
			return 0, err
		}
		closers = append(closers, server.Stop)
		call, end, err := of.open(server)
		if err != nil {
			return 0, err
		}
		closers = append(closers, end)
		ways = append(ways, &measure.Way{Name: of.name, Server: server.Server, Call: call})
	}
	if err := measure.TakeTurns(ctx, ways, ratioCallers, turns, length); err != nil {
		return 0, err
	}
	return ways[1].Ratio(ways[0], measure.Turn.CPU), nil
}
