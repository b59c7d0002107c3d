package frameworktest

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/protoargs/decode"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
)

// CallOption is an option of a call. It is gRPC's.
type CallOption = grpc.CallOption

// Fake replaces the handler of a unary RPC by a function, in this kit only. rpc is the
// method of a generated client of the kit, so the compiler checks the function:
//
//	auth := authv1.NewAuthServiceClient(kit)
//	frameworktest.Fake(kit, auth.CheckPassword,
//		func(ctx context.Context, req *authv1.CheckPasswordRequest) (*authv1.CheckPasswordResponse, error) {
//			return &authv1.CheckPasswordResponse{Valid: true}, nil
//		})
//
// If no instance of the kit serves the API, the kit starts one. A call of an RPC of that
// instance that has no fake ends with UNIMPLEMENTED and fails the test, with the lines to
// write. The function is called from many goroutines, within everything that runs around a
// handler. Another Fake of the same RPC replaces the first.
func Fake[Request, Reply any](
	kit *Kit,
	rpc func(context.Context, *Request, ...CallOption) (*Reply, error),
	fake func(context.Context, *Request) (*Reply, error),
) {
	kit.tb.Helper()
	kit.fakes.setUnary(kit.methodOf(rpc), func(ctx context.Context, request any) (any, error) {
		typed, ok := request.(*Request)
		if !ok {
			return nil, status.Errorf(codes.Internal, "the request is %T, and the fake takes %T", request, typed)
		}
		reply, err := fake(ctx, typed)
		if err != nil {
			return nil, err
		}
		return reply, nil
	})
}

// FakeServerStream replaces the handler of an RPC whose replies are a stream: see [Fake].
func FakeServerStream[Request, Reply any](
	kit *Kit,
	rpc func(context.Context, *Request, ...CallOption) (grpc.ServerStreamingClient[Reply], error),
	fake func(*Request, grpc.ServerStreamingServer[Reply]) error,
) {
	kit.tb.Helper()
	kit.fakes.setStream(kit.methodOf(rpc), func(stream grpc.ServerStream) error {
		request := new(Request)
		if err := stream.RecvMsg(request); err != nil {
			return err
		}
		return fake(request, &grpc.GenericServerStream[Request, Reply]{ServerStream: stream})
	})
}

// FakeClientStream replaces the handler of an RPC whose requests are a stream: see [Fake].
func FakeClientStream[Request, Reply any](
	kit *Kit,
	rpc func(context.Context, ...CallOption) (grpc.ClientStreamingClient[Request, Reply], error),
	fake func(grpc.ClientStreamingServer[Request, Reply]) error,
) {
	kit.tb.Helper()
	kit.fakes.setStream(kit.methodOf(rpc), func(stream grpc.ServerStream) error {
		return fake(&grpc.GenericServerStream[Request, Reply]{ServerStream: stream})
	})
}

// FakeBidiStream replaces the handler of an RPC that streams in both directions: see [Fake].
func FakeBidiStream[Request, Reply any](
	kit *Kit,
	rpc func(context.Context, ...CallOption) (grpc.BidiStreamingClient[Request, Reply], error),
	fake func(grpc.BidiStreamingServer[Request, Reply]) error,
) {
	kit.tb.Helper()
	kit.fakes.setStream(kit.methodOf(rpc), func(stream grpc.ServerStream) error {
		return fake(&grpc.GenericServerStream[Request, Reply]{ServerStream: stream})
	})
}

// FakeByName replaces the handler of a unary RPC by a function of plain values, for tests
// of calls by name. The values are those of docs/named-parameters.md: the parameters as
// from framework.Reply.Map, the reply as for framework.Bus.Call. The generated code of the
// API must be linked into the test: import it.
func (k *Kit) FakeByName(rpc string, fake func(ctx context.Context, parameters framework.Args) (framework.Args, error)) {
	k.tb.Helper()
	method := k.methodOf(rpc)
	if isStream(method) {
		k.tb.Fatalf("frameworktest: %s is a stream: give a fake by its type, such as FakeServerStream", method.RPC.Name)
	}
	reply := encode.NewPlan(method.RPC.Name+": reply", method.Descriptor.Output(), nil)
	k.fakes.setUnary(method, func(ctx context.Context, request any) (any, error) {
		message, ok := request.(proto.Message)
		if !ok {
			return nil, status.Errorf(codes.Internal, "the request is %T, which is no message", request)
		}
		values, err := fake(ctx, decode.Map(message, protoregistry.GlobalTypes))
		if err != nil {
			return nil, err
		}
		made, err := reply.Encode(values)
		if err != nil {
			k.tb.Errorf("frameworktest: the reply of the fake of %s: %v", method.RPC.Name, err)
			return nil, err
		}
		return made, nil
	})
}

// fakes are the fakes of a kit.
type fakes struct {
	kit *Kit

	mu       sync.Mutex // guards the fields below
	services map[string]bool
	unary    map[string]grpc.UnaryHandler
	streams  map[string]func(grpc.ServerStream) error
}

func (f *fakes) setUnary(method *contract.Method, fake grpc.UnaryHandler) {
	f.kit.tb.Helper()
	f.mu.Lock()
	if f.unary == nil {
		f.unary = make(map[string]grpc.UnaryHandler)
	}
	f.unary[method.RPC.Method] = fake
	f.mu.Unlock()
	f.serve(method.Descriptor)
}

func (f *fakes) setStream(method *contract.Method, fake func(grpc.ServerStream) error) {
	f.kit.tb.Helper()
	f.mu.Lock()
	if f.streams == nil {
		f.streams = make(map[string]func(grpc.ServerStream) error)
	}
	f.streams[method.RPC.Method] = fake
	f.mu.Unlock()
	f.serve(method.Descriptor)
}

func (f *fakes) unaryOf(method string) grpc.UnaryHandler {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.unary[method]
}

func (f *fakes) streamOf(method string) func(grpc.ServerStream) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.streams[method]
}

// served notes that an instance serves a service, and reports whether that is new.
func (f *fakes) served(service string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.services[service] {
		return false
	}
	if f.services == nil {
		f.services = make(map[string]bool)
	}
	f.services[service] = true
	return true
}

// has reports whether an instance serves or served a service.
func (f *fakes) has(service string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.services[service]
}

// serve starts an instance of the service of a method, unless there is one. None of its
// RPCs has a handler but the fakes.
func (f *fakes) serve(method protoreflect.MethodDescriptor) {
	f.kit.tb.Helper()
	service, _ := method.Parent().(protoreflect.ServiceDescriptor)
	if !f.served(string(service.FullName())) {
		return
	}
	desc := f.describe(service)
	f.kit.connect(f.kit.Serve(func(apis grpc.ServiceRegistrar) { apis.RegisterService(desc, f) }))
}

// describe returns the description of a service without handlers.
func (f *fakes) describe(service protoreflect.ServiceDescriptor) *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: string(service.FullName()), HandlerType: (*any)(nil), Metadata: service.ParentFile().Path()}
	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		path := "/" + desc.ServiceName + "/" + string(method.Name())
		if method.IsStreamingClient() || method.IsStreamingServer() {
			desc.Streams = append(desc.Streams, grpc.StreamDesc{
				StreamName: string(method.Name()), ClientStreams: method.IsStreamingClient(), ServerStreams: method.IsStreamingServer(),
				Handler: func(any, grpc.ServerStream) error { return f.missing(path) },
			})
			continue
		}
		request := typeOf(method.Input())
		desc.Methods = append(desc.Methods, grpc.MethodDesc{
			MethodName: string(method.Name()),
			Handler: func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
				message := request.New().Interface()
				if err := decode(message); err != nil {
					return nil, err
				}
				return interceptor(ctx, message, &grpc.UnaryServerInfo{Server: srv, FullMethod: path}, func(context.Context, any) (any, error) {
					return nil, f.missing(path)
				})
			},
		})
	}
	return desc
}

// typeOf returns the type of a message: the generated one if that is linked in.
func typeOf(message protoreflect.MessageDescriptor) protoreflect.MessageType {
	if found, err := protoregistry.GlobalTypes.FindMessageByName(message.FullName()); err == nil {
		return found
	}
	return dynamicpb.NewMessageType(message)
}

// missing fails the test because an RPC has no fake, and returns the error of the call.
func (f *fakes) missing(path string) error {
	method := contracts().Method(path)
	f.kit.tb.Errorf("frameworktest: %s was called and has no fake. Write:\n\n%s", method.RPC.Name, fakeOf(method.Descriptor))
	return status.Errorf(codes.Unimplemented, "%s has no fake in this test", method.RPC.Name)
}

// fakeOf returns the lines that fake an RPC.
func fakeOf(method protoreflect.MethodDescriptor) string {
	request, reply := goType(method.Input()), goType(method.Output())
	function, parameters, result := "Fake", "ctx context.Context, req *"+request, "(*"+reply+", error)"
	switch {
	case method.IsStreamingClient() && method.IsStreamingServer():
		function, parameters, result = "FakeBidiStream", fmt.Sprintf("stream grpc.BidiStreamingServer[%s, %s]", request, reply), "error"
	case method.IsStreamingClient():
		function, parameters, result = "FakeClientStream", fmt.Sprintf("stream grpc.ClientStreamingServer[%s, %s]", request, reply), "error"
	case method.IsStreamingServer():
		function, parameters, result = "FakeServerStream", fmt.Sprintf("req *%s, stream grpc.ServerStreamingServer[%s]", request, reply), "error"
	}
	inPackage, _, _ := strings.Cut(request, ".")
	return fmt.Sprintf("\tframeworktest.%s(kit, %s.New%sClient(kit).%s,\n\t\tfunc(%s) %s { … })\n", function, inPackage, method.Parent().Name(), method.Name(), parameters, result)
}

// goType returns the name of a message's Go type, with its package.
func goType(message protoreflect.MessageDescriptor) string {
	return strings.TrimPrefix(reflect.TypeOf(typeOf(message).Zero().Interface()).String(), "*")
}

// unfakedAPIs fails the test at a call of an API of which a kit has neither a fake nor a
// service. It observes the buses of the kit.
type unfakedAPIs Kit

// Observe implements [framework.Observer].
func (u *unfakedAPIs) Observe(_ context.Context, event framework.Event) {
	ended, ok := event.(framework.CallEnded)
	if !ok || !u.onlyFakes || ended.Outcome != framework.NotSent || ended.Code != codes.Unimplemented {
		return
	}
	found := contracts().RPC(ended.RPC)
	if found != nil && !(*Kit)(u).fakes.has(found.Service.API.Service) {
		_ = (*Kit)(u).fakes.missing(found.RPC.Method)
	}
}
