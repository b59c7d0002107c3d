package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

const (
	// atOnce is the shutdown timeout of an instance.
	atOnce = 5 * time.Millisecond
	// again is how long an instance waits until it tries again to listen at its
	// address.
	again = 2 * time.Millisecond
	// work is how long a handler takes at most. Failing is the share of the calls
	// whose handler returns an error.
	work    = 2 * time.Millisecond
	failing = 0.02
)

var quiet = framework.Logger(slog.New(slog.DiscardHandler))

// service is the tested service.
type service struct {
	testv1.UnimplementedEchoServiceServer
	testv1.UnimplementedPlainServiceServer

	// ran records a run, and linked counts those of calls without the network.
	ran    func(callID string) error
	linked atomic.Int64
}

func (s *service) register(apis grpc.ServiceRegistrar) {
	testv1.RegisterEchoServiceServer(apis, s)
	testv1.RegisterPlainServiceServer(apis, s)
}

// Ping is the RPC that runs at most once.
func (s *service) Ping(ctx context.Context, req *testv1.PingRequest) (*testv1.PingResponse, error) {
	return &testv1.PingResponse{Text: req.GetText()}, s.run(ctx, req.GetText())
}

// Echo is the RPC that declares NO_SIDE_EFFECTS.
func (s *service) Echo(ctx context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Text: req.GetText()}, s.run(ctx, req.GetText())
}

// run records the run and then works, even if the call has ended meanwhile.
func (s *service) run(ctx context.Context, callID string) error {
	if err := s.ran(callID); err != nil {
		panic(err) // every run must be recorded
	}
	// grpc-go's own stream knows how the request was compressed.
	if _, connected := grpc.ServerTransportStreamFromContext(ctx).(interface{ RecvCompress() string }); !connected {
		s.linked.Add(1)
	}
	time.Sleep(rand.N(work))
	if rand.Float64() < failing {
		code := codes.Aborted
		if rand.IntN(2) == 0 {
			code = codes.Unavailable // which grpc-go also uses for its own errors
		}
		return status.Error(code, "the handler failed")
	}
	return nil
}

// serve runs an instance's process. It writes changes of its registration to the output,
// and shuts down at once when the input ends.
func serve(ctx context.Context, address, path string) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	book, err := executionlog.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, book.Close()) }()
	started, err := startAt(ctx, address, newAnnouncer(os.Stdout), &service{ran: book.Ran}, atOnce)
	if err == nil {
		err = started.Wait()
	}
	if ctx.Err() != nil {
		return nil // calls that it cut off are no error
	}
	return fmt.Errorf("an instance at %s ended by itself: %w", address, err)
}

// startAt starts an instance as soon as its address is free.
func startAt(ctx context.Context, address string, registry discovery.Registry, served *service, timeout time.Duration) (*framework.Service, error) {
	ticker := time.NewTicker(again)
	defer ticker.Stop()
	for {
		started, err := framework.Start(ctx, registry, served.register, framework.ListenOn(address), framework.ShutdownTimeout(timeout), quiet)
		if !errors.Is(err, syscall.EADDRINUSE) {
			return started, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}
