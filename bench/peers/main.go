// Peers compares a call on a bus with the same call by other frameworks: CPU and
// allocations of the caller and of the server, which are separate processes.
//
// It is a module of its own, because the other frameworks have many dependencies.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onecall-dev/onecall/bench/internal/measure"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
)

func main() {
	var o options
	flag.StringVar(&o.serve, "serve", "", "run the server of a peer, or etcd")
	flag.StringVar(&o.etcd, "etcd", "", "with -serve: client URL of etcd")
	flag.StringVar(&o.only, "peers", "", "names of the peers, comma-separated; grpc-go is always measured")
	flag.StringVar(&o.callers, "callers", "1,16,128", "numbers of callers at once, comma-separated")
	flag.StringVar(&o.bytes, "bytes", "50,1024", "sizes of the request's and the reply's text, comma-separated")
	flag.StringVar(&o.page, "page", "", "write the table into this page, between two comments")
	flag.StringVar(&o.chart, "chart", "", "write a chart to this SVG file")
	flag.IntVar(&o.turns, "turns", 11, "turns of each peer")
	flag.DurationVar(&o.length, "time", 300*time.Millisecond, "length of a turn")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	err := o.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	serve, etcd, only, callers, bytes, page, chart string
	turns                                          int
	length                                         time.Duration
}

func (o options) run(ctx context.Context) error {
	if o.serve != "" {
		return serve(ctx, o.serve, o.etcd)
	}
	callers, err := numbers("callers", o.callers)
	if err != nil {
		return err
	}
	sizes, err := numbers("bytes", o.bytes)
	if err != nil {
		return err
	}
	chosen, err := choose(o.only)
	if err != nil {
		return err
	}
	if o.turns < 1 || o.length <= 0 {
		return fmt.Errorf("-turns %d and -time %v: both are more than zero", o.turns, o.length)
	}
	measured, err := o.compare(ctx, chosen, sizes, callers)
	if err != nil {
		return err
	}
	table := measured.table()
	fmt.Println(table)
	if o.page != "" {
		if err := writePage(o.page, table); err != nil {
			return err
		}
	}
	if o.chart != "" {
		return os.WriteFile(o.chart, measured.chart(), 0o644)
	}
	return nil
}

// numbers parses the numbers of the flag of a name.
func numbers(name, text string) (parsed []int, err error) {
	for part := range strings.SplitSeq(text, ",") {
		number, err := strconv.Atoi(part)
		if err != nil || number < 1 {
			return nil, fmt.Errorf("-%s: %q is not a number above zero", name, part)
		}
		parsed = append(parsed, number)
	}
	return parsed, nil
}

// choose returns the peers of some names, all if there are none. The first is always that
// with which the others are compared.
func choose(names string) ([]peer, error) {
	if names == "" {
		return peers, nil
	}
	chosen := peers[:1:1]
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(peers, func(p peer) bool { return p.name == name })
		switch {
		case i < 0:
			return nil, fmt.Errorf("-peers: there is no peer %q", name)
		case i > 0:
			chosen = append(chosen, peers[i])
		}
	}
	return chosen, nil
}

// serve runs a server's process.
func serve(ctx context.Context, as, endpoint string) error {
	if as == "etcd" {
		return measure.Serve(ctx, serveEtcd)
	}
	i := slices.IndexFunc(peers, func(p peer) bool { return p.name == as })
	if i < 0 {
		return fmt.Errorf("-serve: there is no peer %q", as)
	}
	return measure.Serve(ctx, func(ctx context.Context, ready func(string)) error { return peers[i].serve(ctx, endpoint, ready) })
}

// serveEtcd runs an etcd in memory.
func serveEtcd(ctx context.Context, ready func(string)) error {
	// go-zero's client connects to the address that etcd announces, so it needs a port.
	address, err := freeAddress(ctx)
	if err != nil {
		return err
	}
	server, err := embed.Start(ctx, embed.Config{Listen: address})
	if err != nil {
		return err
	}
	ready(server.Endpoints()[0])
	<-ctx.Done()
	return server.Close()
}

// compare measures peers.
func (o options) compare(ctx context.Context, chosen []peer, sizes, callers []int) (found results, err error) {
	var closers []func() error
	defer func() {
		for _, closer := range slices.Backward(closers) {
			err = errors.Join(err, closer())
		}
	}()
	self, err := os.Executable()
	if err != nil {
		return found, err
	}
	etcd, err := measure.Start(ctx, self, []string{"-serve", "etcd"})
	if err != nil {
		return found, err
	}
	closers = append(closers, etcd.Stop)
	var servers []*measure.Server
	var clients []client
	for _, peer := range chosen {
		server, err := measure.Start(ctx, self, []string{"-serve", peer.name, "-etcd", etcd.Address})
		if err != nil {
			return found, err
		}
		closers = append(closers, server.Stop)
		call, end, err := peer.dial(ctx, etcd.Address, server.Address)
		if err != nil {
			return found, fmt.Errorf("%s: %w", peer.name, err)
		}
		closers = append(closers, end)
		if err := ready(ctx, call); err != nil {
			return found, fmt.Errorf("%s: %w", peer.name, err)
		}
		servers, clients = append(servers, server), append(clients, call)
	}
	found = results{machine: measure.Machine(), turns: o.turns, peers: chosen, sizes: sizes, callers: callers}
	for _, size := range sizes {
		for _, count := range callers {
			text := strings.Repeat("x", size)
			var ways []*measure.Way
			for i, peer := range chosen {
				ways = append(ways, &measure.Way{Name: peer.name, Server: servers[i], Call: func(ctx context.Context) error { return clients[i].check(ctx, text) }})
			}
			if err := measure.TakeTurns(ctx, ways, count, o.turns, o.length); err != nil {
				return found, err
			}
			found.add(size, count, ways)
			fmt.Fprintf(os.Stderr, "%d bytes, %d callers: measured\n", size, count)
		}
	}
	return found, nil
}

// check makes a call, and returns an error unless the reply is the request's text.
func (c client) check(ctx context.Context, text string) error {
	got, err := c(ctx, text)
	if err == nil && got != text {
		return fmt.Errorf("the reply has %d bytes and is not the request's", len(got))
	}
	return err
}

// readyWithin is how long a client has to find its server, which is registered just now.
const readyWithin = 20 * time.Second

// ready waits until a client's calls succeed.
func ready(ctx context.Context, call client) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	for {
		err := call.check(ctx, "ready")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no call succeeds: %w", err)
		case <-time.After(50 * time.Millisecond): //nolint:forbidigo // the client has no event for it
		}
	}
}
