package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/bench/internal/measure"
	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// api is the called service.
const api = "test.echo"

// echo returns the request's payload.
type echo struct {
	testv1.UnimplementedEchoServiceServer
}

// Watch returns the request's payload once.
func (echo) Watch(req *testv1.WatchRequest, stream grpc.ServerStreamingServer[testv1.WatchResponse]) error {
	return stream.Send(&testv1.WatchResponse{Text: req.GetText()})
}

func (echo) Echo(_ context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Text: req.GetText()}, nil
}

// serve runs a server's process. The first line of its output is the address and, if it has
// them, the incarnation and the socket.
func serve(ctx context.Context, as string) error {
	run := func(ctx context.Context, ready func(string)) error { return serveOnecall(ctx, ready) }
	switch way := servingOf(as); {
	case as == "plain":
		run = servePlain
	case as == "onecall":
	case way == nil:
		return fmt.Errorf("-serve %q is neither plain, onecall nor a way of -observe or -secure", as)
	default:
		run = func(ctx context.Context, ready func(string)) error {
			return serveOnecall(ctx, ready, way.serveOptions()...)
		}
	}
	return measure.Serve(ctx, run)
}

func servePlain(ctx context.Context, ready func(line string)) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	testv1.RegisterEchoServiceServer(server, echo{})
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	ready(listener.Addr().String())
	return server.Serve(listener)
}

func serveOnecall(ctx context.Context, ready func(line string), options ...framework.ServeOption) error {
	registry := memory.New()
	stop := registry.Watch(api, func(snapshot discovery.Snapshot) {
		if snapshot.Err() == nil {
			instance := snapshot.Instances[0]
			socket, _ := json.Marshal(instance.Socket) // it has texts alone
			ready(instance.Address + " " + instance.Incarnation.String() + " " + string(socket))
		}
	})
	defer stop()
	return framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
		testv1.RegisterEchoServiceServer(apis, echo{})
	}, append([]framework.ServeOption{quiet}, options...)...)
}

// server is the process of a server.
type server struct {
	*measure.Server

	incarnation string // "" of a plain server
	socket      discovery.Socket
}

// start starts the process of a server, with additional variables in its environment.
func start(ctx context.Context, self, as string, environment ...string) (*server, error) {
	started, err := measure.Start(ctx, self, []string{"-serve", as}, environment...)
	if err != nil {
		return nil, err
	}
	incarnation, socket, _ := strings.Cut(started.Rest, " ")
	s := &server{Server: started, incarnation: incarnation}
	if socket != "" {
		if err := json.Unmarshal([]byte(socket), &s.socket); err != nil {
			return nil, errors.Join(err, s.Stop())
		}
	}
	return s, nil
}
