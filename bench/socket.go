package main

import (
	"context"
	"errors"
	"time"

	"github.com/onecall-dev/onecall/discovery"
)

// compareSockets measures calls of one service over TCP and over its unix socket.
func compareSockets(ctx context.Context, self string, callers, turns int, length time.Duration) (ways []*way, err error) {
	served, err := start(ctx, self, "onecall")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, served.stop()) }()
	overTCP, err := newBus(served.address, served.incarnation)
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
	ways = []*way{
		{name: "TCP", server: served, call: busCall(overTCP)},
		{name: "unix socket", server: served, call: busCall(overSocket)},
	}
	return ways, takeTurns(ctx, ways, callers, turns, length)
}
