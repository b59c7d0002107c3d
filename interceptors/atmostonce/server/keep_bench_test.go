package server_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/internal/grpctest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// BenchmarkKeep makes calls over loopback whose replies are kept just in case, and calls
// whose are not. To compare CPU, run one of them alone with so many calls, such as
// -benchtime 200000x, and measure the process.
func BenchmarkKeep(b *testing.B) {
	for size, bytes := range map[string]int{"50B": 50, "4KiB": 4 << 10, "32KiB": 32 << 10} {
		for title, keeps := range map[string]func(string) bool{"kept": always, "not kept": nil} {
			b.Run(size+"/"+title, func(b *testing.B) { benchmarkKeep(b, server.Config{KeepsReply: keeps}, bytes) })
		}
	}
}

func benchmarkKeep(b *testing.B, config server.Config, bytes int) {
	b.Helper()
	config.Incarnation = discovery.NewIncarnation()
	guard, err := server.New(config)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(guard.Close)
	grpcServer := grpc.NewServer(grpc.NumStreamWorkers(64))
	grpcServer.RegisterService(guard.Instrument(&testv1.EchoService_ServiceDesc), &echo{text: strings.Repeat("x", bytes)})
	conn, err := grpc.NewClient(grpctest.Loopback(b, grpcServer), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	client := testv1.NewEchoServiceClient(conn)
	session := atmostonce.NewSession(time.Now())
	var seq atomic.Uint64
	b.ReportAllocs()
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			identity := atmostonce.Identity{Incarnation: config.Incarnation, Session: session, Seq: seq.Add(1)}
			ctx := metadata.NewOutgoingContext(context.Background(), metadata.MD{atmostonce.CallKey: {identity.Value()}})
			if _, err := client.Echo(ctx, &testv1.EchoRequest{}); err != nil {
				b.Error(err)
			}
		}
	})
}
