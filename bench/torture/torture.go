package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/faulty/ledger"
	"github.com/onecall-dev/onecall/internal/faulty/replay"
)

const (
	// latest is how late a replay is at most, and lateNews how late the news.
	latest   = 600 * time.Millisecond
	lateNews = 30 * time.Millisecond
	// patience bounds what must end by itself.
	patience = 20 * time.Second
	// the time to connect again, in place of grpc-go's, which is longer than
	// the lives of instances.
	baseDelay, maxDelay = 5 * time.Millisecond, 50 * time.Millisecond
)

// torture runs the instances, the callers and whoever sends calls again, and
// judges.
func torture(ctx context.Context, settings settings) (result result, err error) {
	folder, err := os.MkdirTemp("", "torture")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	addresses, err := freeAddresses(ctx, settings.instances)
	if err != nil {
		return result, err
	}
	registry := newLateRegistry(lateNews, settings.silent)
	defer registry.close()
	fleet, err := startFleet(ctx, registry, addresses, folder)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, fleet.stop()) }()

	sender := replay.NewSender(nil)
	defer sender.Close()
	player := replay.NewPlayer(sender, copies(settings.replayed, addresses))
	defer player.Close()
	bus, err := framework.NewBus(registry, framework.Logger(slog.New(slog.DiscardHandler)), framework.DialOptions(
		grpc.WithContextDialer(tapped(player)),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: baseDelay, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxDelay},
			MinConnectTimeout: time.Second,
		})))
	if err != nil {
		return result, err
	}
	defer bus.Close()

	book := &ledger.Ledger{}
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
	if err := readAll(book, folder); err != nil {
		return result, err
	}
	result = judge(book.Check(), callers, player.Played(), settings)
	result.killed, result.stopped = fleet.ends()
	return result, nil
}

// copies sends a share of the calls again, to any address, at any time up to
// the latest.
func copies(share float64, addresses []string) func(replay.Call) []replay.Copy {
	return func(replay.Call) []replay.Copy {
		if rand.Float64() >= share {
			return nil
		}
		return []replay.Copy{{Address: addresses[rand.IntN(len(addresses))], After: rand.N(latest)}}
	}
}

// tapped connects so that the player sees all calls as they stand on the wire.
func tapped(player *replay.Player) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		return replay.Tap(conn, func(call replay.Call, err error) {
			if err != nil {
				panic(err) // grpc-go wrote what is no HTTP/2
			}
			player.See(call)
		}), nil
	}
}

// readAll adds to the ledger what the processes noted.
func readAll(book *ledger.Ledger, folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*"+notes))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := book.Read(file); err != nil {
			return err
		}
	}
	return nil
}

// freeAddresses gives addresses that nobody listens on. Their ports are below
// those that the kernel gives to connections, which could take one while its
// instance is away.
func freeAddresses(ctx context.Context, count int) ([]string, error) {
	const lowest, highest, tries = 15000, 30000, 1000
	var addresses []string
	for range tries {
		address := fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(highest-lowest))
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err != nil {
			continue
		}
		if err := listener.Close(); err != nil {
			return nil, err
		}
		if !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
		if len(addresses) == count {
			return addresses, nil
		}
	}
	return nil, fmt.Errorf("no %d free ports from %d to %d", count, lowest, highest)
}
