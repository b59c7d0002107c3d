package main

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"runtime/metrics"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

const (
	// apiName is the bus name of the API.
	apiName = "onecall.test.v1.PlainService"
	// sampling is the time between two looks at the memory.
	sampling = 50 * time.Millisecond
)

// report is what the service writes at its end.
type report struct {
	Ran     int64  `json:"ran"`
	Highest int64  `json:"highest"`
	Shed    uint64 `json:"shed"`
	Memory  uint64 `json:"memory"`
}

// service waits in each call.
type service struct {
	testv1.UnimplementedPlainServiceServer

	work                  time.Duration
	ran, running, highest atomic.Int64
}

// Ping implements the API.
func (s *service) Ping(_ context.Context, req *testv1.PingRequest) (*testv1.PingResponse, error) {
	s.ran.Add(1)
	running := s.running.Add(1)
	defer s.running.Add(-1)
	for highest := s.highest.Load(); running > highest && !s.highest.CompareAndSwap(highest, running); highest = s.highest.Load() {
	}
	time.Sleep(s.work)
	return &testv1.PingResponse{Text: req.GetText()}, nil
}

// serve runs the service. It writes a line when it serves, and its report when its input
// ends.
func serve(address string, settings settings) error {
	running := &service{work: settings.work}
	served, err := framework.Start(context.Background(), memory.New(), func(apis grpc.ServiceRegistrar) {
		testv1.RegisterPlainServiceServer(apis, running)
	}, framework.ListenOn(address), framework.MaxInFlight(settings.most), framework.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(served.Address()); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { // ends with the input
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	var report report
	ticker := time.NewTicker(sampling)
	defer ticker.Stop()
	for waiting := true; waiting; {
		select {
		case <-ticker.C:
			metrics.Read(samples)
			report.Memory = max(report.Memory, samples[0].Value.Uint64()-samples[1].Value.Uint64())
		case <-ended:
			waiting = false
		}
	}
	report.Ran, report.Highest, report.Shed = running.ran.Load(), running.highest.Load(), served.Stats().Shed[apiName]
	if err := served.Stop(context.Background()); err != nil {
		return err
	}
	return out.Encode(report)
}
