package grpctest_test

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/onecall-dev/onecall/internal/grpctest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

type echo struct {
	testv1.UnimplementedEchoServiceServer
}

func (echo) Echo(_ context.Context, request *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Text: request.GetText()}, nil
}

func TestAServerIsServedUntilTheTestEnds(t *testing.T) {
	t.Parallel()
	var conns []*grpc.ClientConn
	t.Run("while it runs", func(t *testing.T) {
		onLoopback, inMemory := grpc.NewServer(), grpc.NewServer()
		testv1.RegisterEchoServiceServer(onLoopback, echo{})
		testv1.RegisterEchoServiceServer(inMemory, echo{})
		conn, err := grpc.NewClient(grpctest.Loopback(t, onLoopback), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn, grpctest.Memory(t, inMemory))
		for _, conn := range conns {
			if reply, err := testv1.NewEchoServiceClient(conn).Echo(t.Context(), &testv1.EchoRequest{Text: "x"}); err != nil || reply.GetText() != "x" {
				t.Errorf("a call = %v, %v", reply, err)
			}
		}
	})
	for _, conn := range conns {
		if _, err := testv1.NewEchoServiceClient(conn).Echo(t.Context(), &testv1.EchoRequest{}); err == nil {
			t.Error("a call after the test's end succeeded")
		}
		_ = conn.Close()
	}
}
