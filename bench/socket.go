package main

import (
	"context"
	"errors"
	"time"

	"github.com/onecall-dev/onecall/bench/internal/measure"
	"github.com/onecall-dev/onecall/discovery"
)

// compareSockets measures calls of one service over TCP and over its unix socket.
func compareSockets(ctx context.Context, self string, callers, turns int, length time.Duration) (ways []*measure.Way, err error) {
	served, err := start(ctx, self, "onecall")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, served.Stop()) }()
	overTCP, err := newBus(served.Address, served.incarnation)
	if err != nil {
		return nil, err
	}
	defer overTCP.Close()
	// Nothing listens at this address, so calls succeed over the socket alone.
	overSocket, err := newBusOf(discovery.Instance{API: api, Address: "127.0.0.1:1", Socket: served.socket}, served.incarnation)
	if err != nil {
		return nil, err
	}
	defer overSocket.Close()
	ways = []*measure.Way{
		{Name: "TCP", Server: served.Server, Call: busCall(overTCP)},
		{Name: "unix socket", Server: served.Server, Call: busCall(overSocket)},
	}
	return ways, measure.TakeTurns(ctx, ways, callers, turns, length)
}
