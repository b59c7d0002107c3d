package framework_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestReflectionKnowsWhatIsServed registers gRPC's reflection service before the API, as
// docs/design.md does. The reflection service must list the API too.
func TestReflectionKnowsWhatIsServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		listener := bufconn.Listen(1 << 20)
		ctx, cancel := context.WithCancel(t.Context())
		returned := make(chan error, 1)
		go func() {
			returned <- framework.Serve(ctx, memory.New(), func(apis grpc.ServiceRegistrar) {
				reflection.Register(apis.(reflection.GRPCServer))
				testv1.RegisterEchoServiceServer(apis, &echo{})
			}, quiet, framework.Listener(listener), framework.AdvertiseAs("10.0.0.1:443"))
		}()
		stream, err := grpc_reflection_v1.NewServerReflectionClient(plainClient(t, listener)).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ask := func(request *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
			t.Helper()
			if err := stream.Send(request); err != nil {
				t.Fatal(err)
			}
			reply, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return reply
		}
		var services []string
		for _, service := range ask(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
		}).GetListServicesResponse().GetService() {
			services = append(services, service.GetName())
		}
		for _, want := range []string{"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "onecall.test.v1.EchoService"} {
			if !slices.Contains(services, want) {
				t.Errorf("reflection lists %v, without %s", services, want)
			}
		}
		files := ask(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "onecall.test.v1.EchoService"},
		}).GetFileDescriptorResponse().GetFileDescriptorProto()
		if len(files) == 0 {
			t.Error("reflection has no file of the API")
		}
		if err := stream.CloseSend(); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-returned; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}
