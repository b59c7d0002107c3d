package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

const (
	// ttl is how long etcd keeps an instance that died, which none does here.
	ttl = 5 * time.Second
	// work is how long a handler takes at most, and longWork how long it takes in the
	// share slow of the calls, so that calls are under way whenever an instance ends.
	work     = 2 * time.Millisecond
	longWork = 400 * time.Millisecond
	slow     = 0.01
	// tick is the time between two messages of a stream.
	tick = 10 * time.Millisecond
)

// errTold ends a stream whose handler learned of the shutdown.
var errTold = status.Error(codes.Aborted, "the instance shuts down: start the stream again")

// quiet logs what should not happen.
var quiet = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))

// service is the tested service.
type service struct {
	testv1.UnimplementedEchoServiceServer
	testv1.UnimplementedPlainServiceServer

	book *executionlog.File
}

// Ping is the unary RPC, which runs at most once.
func (s *service) Ping(_ context.Context, req *testv1.PingRequest) (*testv1.PingResponse, error) {
	s.ran(req.GetText())
	if rand.Float64() < slow {
		time.Sleep(longWork)
	} else {
		time.Sleep(rand.N(work))
	}
	return &testv1.PingResponse{Text: req.GetText()}, nil
}

// Watch is a stream without an end, of which the caller only receives.
func (s *service) Watch(req *testv1.WatchRequest, stream testv1.EchoService_WatchServer) error {
	s.ran(req.GetText())
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		if err := stream.Send(&testv1.WatchResponse{Text: req.GetText()}); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-framework.Draining(stream.Context()):
			return errTold
		}
	}
}

// Chat is a stream without an end, on which the caller sends and receives.
func (s *service) Chat(stream testv1.EchoService_ChatServer) error {
	first, err := stream.Recv() // which the caller sends at once
	if err != nil {
		return err
	}
	s.ran(first.GetText())
	received := make(chan *testv1.ChatRequest, 1)
	received <- first
	go func() { // ends with the stream, and so at the latest when the handler has returned
		defer close(received)
		for {
			req, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case received <- req:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	for {
		select {
		case req, ok := <-received:
			if !ok {
				return nil
			}
			if err := stream.Send(&testv1.ChatResponse{Text: req.GetText()}); err != nil {
				return err
			}
		case <-framework.Draining(stream.Context()):
			return errTold
		}
	}
}

// ran records the run of a call.
func (s *service) ran(callID string) {
	if err := s.book.Ran(callID); err != nil {
		panic(err) // every run must be recorded
	}
}

// instance is the process of an instance.
type instance struct {
	endpoint, listen, log string
	lameDuck              time.Duration
}

// serve serves until SIGTERM. It writes its address when it is registered.
func (i instance) serve() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1) // the parent process is gone
	}()
	book, err := executionlog.Open(i.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, book.Close()) }()
	registry, err := etcd.Open(etcd.Config{Endpoints: []string{i.endpoint}, TTL: ttl, Logger: quiet})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, registry.Close()) }()
	running := &service{book: book}
	registered := &registrations{registered: make(chan struct{})}
	served, err := framework.Start(ctx, registry, func(apis grpc.ServiceRegistrar) {
		testv1.RegisterEchoServiceServer(apis, running)
		testv1.RegisterPlainServiceServer(apis, running)
	}, framework.ListenOn(i.listen), framework.LameDuck(i.lameDuck), framework.Observe(registered),
		framework.Logger(quiet))
	if err != nil {
		return err
	}
	select {
	case <-registered.registered:
		fmt.Println(served.Address())
	case <-served.Done():
	}
	return served.Wait()
}

// registrations waits for the registration of a service.
type registrations struct {
	registered chan struct{}
	seen       bool // events of a service come one after the other
}

// Observe implements [framework.Observer].
func (r *registrations) Observe(_ context.Context, event framework.Event) {
	if changed, ok := event.(framework.RegistrationChanged); ok && changed.Registered && !r.seen {
		r.seen = true
		close(r.registered)
	}
}
