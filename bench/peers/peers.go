package main

import (
	"context"
	"time"

	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

const (
	// name is the name under which every peer registers the service.
	name = "test.echo"
	// path is gRPC's path of the method.
	path = "/onecall.test.v1.EchoService/Echo"
	// deadline is that of each call.
	deadline = 2 * time.Second
)

// peer is a framework, with which a service is served and called as its documentation
// says: with the interceptors that it has on by itself, and a deadline.
type peer struct {
	// name is short, for the command line and the chart. It has no spaces.
	name string
	// title is for the table, and on says what the peer has on besides a deadline.
	title, on string
	// serve runs a server until ctx ends. It calls ready when it listens, with its address.
	serve func(ctx context.Context, etcd string, ready func(address string)) error
	// dial returns a client, and what closes it. Peers with a registry find the server in
	// etcd and ignore its address.
	dial func(ctx context.Context, etcd, address string) (client, func() error, error)
}

// client makes a call with a text and returns the reply's.
type client func(ctx context.Context, text string) (string, error)

// peers are all peers. The others are compared with the first.
var peers = []peer{
	{"grpc-go", "grpc-go", "nothing", serveGRPC, dialGRPC},
	{"grpc-go-etcd", "grpc-go with etcd's resolver", "discovery by etcd, `round_robin`", serveRegistered, dialResolved},
	onecall("onecall", "**Onecall**", "discovery by etcd, at most once, outcomes, rules, least requests, retries, recovery", overTCP),
	onecall("onecall-metrics", "**Onecall** with metrics", "the same, and metrics on both sides", withMetrics),
	onecall("onecall-socket", "**Onecall** on one host", "the same as the first, over the unix socket, as by default on one host", byDefault),
	{"kratos", "Kratos", "recovery; no discovery, because its module for etcd is not in this build", serveKratos, dialKratos},
	{"go-zero", "go-zero zrpc", "discovery by etcd, `p2c_ewma`, traces, metrics, breakers, recovery; its load shedding is off, because it refuses calls at 90 % of the CPU", serveZero, dialZero},
	{"connect-go", "connect-go", "its own protocol on HTTP/2; no discovery", serveConnect, dialConnect},
}

// echo is the service of all peers.
type echo struct {
	testv1.UnimplementedEchoServiceServer
}

// Echo returns the request's text.
func (echo) Echo(_ context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Text: req.GetText()}, nil
}

// generated returns a client that calls the generated one.
func generated(made testv1.EchoServiceClient) client {
	return func(ctx context.Context, text string) (string, error) {
		reply, err := made.Echo(ctx, &testv1.EchoRequest{Text: text})
		return reply.GetText(), err
	}
}

// within returns a client whose calls have the deadline in their context.
func within(call client) client {
	return func(ctx context.Context, text string) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, deadline)
		defer cancel()
		return call(ctx, text)
	}
}
