package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"

	"google.golang.org/grpc"

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

// serve runs a server's process. It writes a line with its address and, if it has them, its
// incarnation and its socket. Then it answers each line with its usage, until its input ends.
func serve(ctx context.Context, as string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	address, ended := make(chan string, 1), make(chan error, 1)
	switch as {
	case "plain":
		go func() { ended <- servePlain(ctx, address) }()
	case "onecall":
		go func() { ended <- serveOnecall(ctx, address) }()
	default:
		way := servingOf(as)
		if way == nil {
			return fmt.Errorf("-serve %q is neither plain, onecall nor a way of -observe or -secure", as)
		}
		go func() { ended <- serveOnecall(ctx, address, way.serveOptions()...) }()
	}
	select {
	case at := <-address:
		fmt.Println(at)
	case err := <-ended:
		return err
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		if err := json.NewEncoder(os.Stdout).Encode(use()); err != nil {
			return err
		}
	}
	cancel()
	return errors.Join(lines.Err(), <-ended)
}

func servePlain(ctx context.Context, address chan<- string) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	testv1.RegisterEchoServiceServer(server, echo{})
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	address <- listener.Addr().String()
	return server.Serve(listener)
}

func serveOnecall(ctx context.Context, address chan<- string, options ...framework.ServeOption) error {
	registry := memory.New()
	stop := registry.Watch(api, func(snapshot discovery.Snapshot) {
		if snapshot.Err() == nil {
			instance := snapshot.Instances[0]
			socket, _ := json.Marshal(instance.Socket) // it has texts alone
			address <- instance.Address + " " + instance.Incarnation.String() + " " + string(socket)
		}
	})
	defer stop()
	return framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
		testv1.RegisterEchoServiceServer(apis, echo{})
	}, append([]framework.ServeOption{quiet}, options...)...)
}

// server is a child process that runs a server.
type server struct {
	address     string
	incarnation string // "" of a plain server
	socket      discovery.Socket
	command     *exec.Cmd
	lines       *bufio.Scanner
	ask         io.WriteCloser
}

// start starts a server's process, with additional variables in its environment.
func start(ctx context.Context, self, as string, environment ...string) (*server, error) {
	command := exec.CommandContext(ctx, self, "-serve", as)
	command.Env = append(os.Environ(), environment...)
	command.Stderr = os.Stderr
	input, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	s := &server{command: command, lines: bufio.NewScanner(output), ask: input}
	if !s.lines.Scan() {
		return nil, errors.Join(fmt.Errorf("the %s server gave no address", as), s.lines.Err(), s.stop())
	}
	s.address, s.incarnation, _ = strings.Cut(s.lines.Text(), " ")
	var socket string
	s.incarnation, socket, _ = strings.Cut(s.incarnation, " ")
	if socket != "" {
		if err := json.Unmarshal([]byte(socket), &s.socket); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	return s, nil
}

// used returns the server's usage so far.
func (s *server) used() (used usage, err error) {
	if _, err := s.ask.Write([]byte("\n")); err != nil {
		return used, err
	}
	if !s.lines.Scan() {
		return used, errors.Join(errors.New("the server has ended"), s.lines.Err())
	}
	err = json.Unmarshal(s.lines.Bytes(), &used)
	return used, err
}

func (s *server) stop() error {
	return errors.Join(s.ask.Close(), s.command.Wait())
}
