package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/bench/internal/replay"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/fixedport"
)

const (
	// latest is the longest delay of a copy, lateNews that of a change in the registry.
	latest   = 600 * time.Millisecond
	lateNews = 30 * time.Millisecond
	// patience limits how long torture waits for what must end by itself.
	patience = 20 * time.Second
	// baseDelay and maxDelay replace grpc-go's backoff, which is longer than an
	// instance lives.
	baseDelay, maxDelay = 5 * time.Millisecond, 50 * time.Millisecond
)

// torture runs the instances, the callers and the player of copies, and checks the
// result.
func torture(ctx context.Context, settings settings) (result result, err error) {
	folder, err := os.MkdirTemp("", "torture")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	addresses, release, err := reserve(ctx, settings.instances)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, release()) }()
	registry := newLateRegistry(lateNews, settings.silent)
	defer registry.close()
	start, err := processes(registry, addresses, folder)
	if err != nil {
		return result, err
	}
	fleet, err := startFleet(ctx, len(addresses), start)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, fleet.stop()) }()

	sender := replay.NewSender()
	defer sender.Close()
	player := replay.NewPlayer(sender, copies(settings.replayed, addresses))
	defer player.Close()
	cuts, sockets := cutter{share: settings.cut}, socketDialer{registry: registry, share: settings.sockets}
	bus, err := framework.NewBus(registry, quiet, framework.DialOptions(
		grpc.WithContextDialer(tapped(player, &cuts, &sockets)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: baseDelay, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxDelay},
			MinConnectTimeout: time.Second,
		})))
	if err != nil {
		return result, err
	}
	defer bus.Close()

	book := &executionlog.Log{}
	callers := newCallers(bus, book, settings)
	if err := callers.run(ctx); err != nil {
		return result, err
	}
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := player.Wait(waiting); err != nil {
		return result, fmt.Errorf("replays are not answered: %w", err)
	}
	if err := fleet.stop(); err != nil {
		return result, err
	}
	if err := book.ReadFolder(folder); err != nil {
		return result, err
	}
	result = judge(book.Check(), callers, player.Played(), settings)
	result.killed, result.stopped = fleet.ends()
	result.cut, result.sockets = cuts.count.Load(), sockets.count.Load()
	return result, nil
}

// copies returns a function that copies a share of the calls, each to a random address
// after a random delay of up to latest.
func copies(share float64, addresses []string) func(replay.Call) []replay.Copy {
	return func(replay.Call) []replay.Copy {
		if rand.Float64() >= share {
			return nil
		}
		return []replay.Copy{{Address: addresses[rand.IntN(len(addresses))], After: rand.N(latest)}}
	}
}

// tapped returns a dialer whose connections show the player all calls as they are on the
// wire.
func tapped(player *replay.Player, cuts *cutter, sockets *socketDialer) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := sockets.dial(ctx, address)
		if err != nil {
			return nil, err
		}
		cuts.take(conn)
		return replay.Tap(conn, func(call replay.Call, err error) {
			if err != nil {
				panic(err) // grpc-go wrote what is no HTTP/2
			}
			player.See(call)
		}), nil
	}
}

// socketDialer makes a share of the connections over the unix socket that was registered last
// for an address, and all others over TCP. The bus does not, because its dialer is tapped.
type socketDialer struct {
	registry *lateRegistry
	share    float64
	count    atomic.Int64
}

// dial connects to an address.
func (s *socketDialer) dial(ctx context.Context, address string) (net.Conn, error) {
	found, _ := s.registry.sockets.Load(address)
	if path, ok := found.(string); ok && rand.Float64() < s.share {
		if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
			s.count.Add(1)
			return conn, nil
		}
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

// cutter cuts a share of the connections of callers, while the instance lives: before a
// request has arrived, while its handler runs, after it, or while the reply is on its way.
type cutter struct {
	share float64
	count atomic.Int64
}

// latestCut is the longest time until a connection is cut.
const latestCut = 300 * time.Millisecond

// take cuts a connection after a random time, or leaves it.
func (c *cutter) take(conn net.Conn) {
	if rand.Float64() >= c.share {
		return
	}
	time.AfterFunc(rand.N(latestCut), func() {
		if conn.Close() == nil { // else it has ended before
			c.count.Add(1)
		}
	})
}

// reserve reserves addresses for instances, until release is called.
func reserve(ctx context.Context, count int) (addresses []string, release func() error, err error) {
	var releases []func() error
	release = func() error {
		var errs []error
		for _, free := range releases {
			errs = append(errs, free())
		}
		return errors.Join(errs...)
	}
	for range count {
		address, free, err := fixedport.Reserve(ctx)
		if err != nil {
			return nil, nil, errors.Join(err, release())
		}
		addresses, releases = append(addresses, address), append(releases, free)
	}
	return addresses, release, nil
}
