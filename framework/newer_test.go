package framework_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// withNext adds an RPC to test.echo.
func withNext(file *descriptorpb.FileDescriptorProto) {
	file.Service[0].Method = append(file.Service[0].Method, &descriptorpb.MethodDescriptorProto{
		Name: new("EchoNext"), InputType: new(".onecall.test.v1.EchoRequest"), OutputType: new(".onecall.test.v1.EchoResponse"),
	})
}

// TestAnRPCThatOnlyNewerInstancesHaveIsCalledByName is about a program that is older than
// some of the instances.
func TestAnRPCThatOnlyNewerInstancesHaveIsCalledByName(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serve(t, registry, &echo{})
	serve(t, registry, &echo{})
	digest, packed := changed(t, withNext)
	serveAny(t, publishing{registry, digest, packed}, (&echo{}).register, framework.ServerOptions(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if called, _ := grpc.MethodFromServerStream(stream); called != "/onecall.test.v1.EchoService/EchoNext" {
			return status.Error(codes.Unimplemented, called)
		}
		request := new(testv1.EchoRequest)
		if err := stream.RecvMsg(request); err != nil {
			return err
		}
		return stream.SendMsg(&testv1.EchoResponse{Text: request.GetText()})
	})))
	serving(t, registry, 3)
	bus := newBus(t, registry, framework.LoadBalancing("round_robin", ""))
	ready(t, bus, "test.echo")
	for i := range 20 {
		reply, err := bus.Call(t.Context(), "test.echo.echo_next", framework.Args{"text": "hi"})
		if err != nil || reply.Map()["text"] != "hi" {
			t.Fatalf("call %d = %v, %v", i+1, reply, err)
		}
		if _, err := bus.Call(t.Context(), "test.echo.echo", framework.Args{"text": "hi"}); err != nil { // which all have
			t.Fatal(err)
		}
	}
	_, err := bus.Call(t.Context(), "test.echo.echo_nxt", framework.Args{"text": "hi"})
	if status.Code(err) != codes.Unimplemented || framework.OutcomeOf(err) != framework.NotSent || !strings.Contains(err.Error(), "has no such RPC") {
		t.Errorf("an RPC that no instance has = %v", err)
	}
}

// TestAnRPCThatTheRegistryCannotTellOf calls an RPC that the program's own .proto does
// not have, while no instance is known.
func TestAnRPCThatTheRegistryCannotTellOf(t *testing.T) {
	t.Parallel()
	bus := newBus(t, memory.New())
	for _, rpc := range []string{"test.kinds.sign_im", "test.kinds.s_i_g_n_in"} {
		t.Run(rpc, func(t *testing.T) {
			_, err := bus.Call(t.Context(), rpc, framework.Args{"username": "adam", "password": "hunter2"})
			for _, want := range []string{"did you mean test.kinds.sign_in?", "what the instances have is not known"} {
				if status.Code(err) != codes.Unimplemented || framework.OutcomeOf(err) != framework.NotSent || !strings.Contains(err.Error(), want) {
					t.Errorf("the call = %v, want an error that says %q", err, want)
				}
			}
		})
	}
}
