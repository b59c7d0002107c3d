package framework_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/grpctest"
	"github.com/onecall-dev/onecall/internal/schema"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
	"github.com/onecall-dev/onecall/proto/sourceinfo"
)

// shopFile is a .proto that is not linked into this program.
func shopFile() *descriptorpb.FileDescriptorProto {
	rules := &descriptorpb.FieldOptions{}
	proto.SetExtension(rules, validate.E_Field, &validate.FieldRules{Type: &validate.FieldRules_String_{String_: &validate.StringRules{MinLen: proto.Uint64(1)}}})
	name := &descriptorpb.ServiceOptions{}
	proto.SetExtension(name, onecallv1.E_Api, &onecallv1.ApiOptions{Name: new("shop.items")})
	field := func(name string, number int32, kind descriptorpb.FieldDescriptorProto_Type, label descriptorpb.FieldDescriptorProto_Label, options *descriptorpb.FieldOptions) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{Name: new(name), Number: new(number), Type: kind.Enum(), Label: label.Enum(), Options: options}
	}
	const one, many = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	return &descriptorpb.FileDescriptorProto{
		Name: new("shop/items.proto"), Package: new("shop.v1"), Syntax: new("proto3"),
		Dependency: []string{"buf/validate/validate.proto", "onecall/v1/options.proto"},
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: new("FindItemRequest"), Field: []*descriptorpb.FieldDescriptorProto{
				field("name", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING, one, rules), field("most", 2, descriptorpb.FieldDescriptorProto_TYPE_INT32, one, nil),
			}},
			{Name: new("FindItemResponse"), Field: []*descriptorpb.FieldDescriptorProto{
				field("names", 1, descriptorpb.FieldDescriptorProto_TYPE_STRING, many, nil), field("total", 2, descriptorpb.FieldDescriptorProto_TYPE_INT64, one, nil),
			}},
		},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("ItemService"), Options: name, Method: []*descriptorpb.MethodDescriptorProto{
			{Name: new("FindItem"), InputType: new(".shop.v1.FindItemRequest"), OutputType: new(".shop.v1.FindItemResponse")},
		}}},
	}
}

// publish returns the schema that an instance publishes of the first service of a file.
func publish(t *testing.T, described *descriptorpb.FileDescriptorProto) (service protoreflect.ServiceDescriptor, digest, packed string) {
	t.Helper()
	file, err := protodesc.NewFile(described, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	service = file.Services().Get(0)
	if digest, err = schema.Digest(service); err != nil {
		t.Fatal(err)
	}
	if packed, err = schema.Of(service).Pack(); err != nil {
		t.Fatal(err)
	}
	return service, digest, packed
}

// serveForeign serves shop.items, whose generated code is not linked here.
func serveForeign(t *testing.T, registry *memory.Registry) {
	t.Helper()
	comments, err := proto.Marshal(&descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{
		{Path: []int32{6, 0, 2, 0}, LeadingComments: new(" Finds items.\n")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	sourceinfo.Register("shop/items.proto", string(comments))
	service, digest, packed := publish(t, shopFile())
	method := service.Methods().Get(0)
	server := grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if called, _ := grpc.MethodFromServerStream(stream); called != "/shop.v1.ItemService/FindItem" {
			return status.Error(codes.Unimplemented, called)
		}
		request := dynamicpb.NewMessage(method.Input())
		if err := stream.RecvMsg(request); err != nil {
			return err
		}
		fields := method.Input().Fields()
		most := request.Get(fields.ByName("most")).Int()
		reply := dynamicpb.NewMessage(method.Output())
		names := reply.Mutable(method.Output().Fields().ByName("names")).List()
		for range most {
			names.Append(request.Get(fields.ByName("name")))
		}
		reply.Set(method.Output().Fields().ByName("total"), protoreflect.ValueOfInt64(most))
		return stream.SendMsg(reply)
	}))
	address := grpctest.Loopback(t, server)
	if _, err := registry.Register(discovery.Instance{
		API: "shop.items", Address: address, Service: string(service.FullName()), Schema: digest, Descriptors: packed,
	}); err != nil {
		t.Fatal(err)
	}
}

// changed returns the schema that an instance publishes of test.echo after a change of its
// .proto.
func changed(t *testing.T, change func(*descriptorpb.FileDescriptorProto)) (digest, packed string) {
	t.Helper()
	file := protodesc.ToFileDescriptorProto(testv1.File_onecall_test_v1_echo_proto)
	change(file)
	_, digest, packed = publish(t, file)
	return digest, packed
}

// publishing is a registry in which instances publish a schema that is not
// theirs.
type publishing struct {
	*memory.Registry

	digest, packed string
}

func (p publishing) Register(instances ...discovery.Instance) (discovery.Registration, error) {
	for i := range instances {
		instances[i].Schema, instances[i].Descriptors = p.digest, p.packed
	}
	return p.Registry.Register(instances...)
}

func TestAnIncompatibleSchemaIsToldOnceAndRefusedUnderStrictSchema(t *testing.T) {
	t.Parallel()
	digest, packed := changed(t, func(file *descriptorpb.FileDescriptorProto) { // EchoRequest.text
		file.MessageType[0].Field[0].Number = proto.Int32(2)
		file.MessageType[0].Field[0].Options = nil
	})
	registry := publishing{memory.New(), digest, packed}
	serveAny(t, registry, (&echo{}).register)
	serveAny(t, registry, (&echo{}).register)

	lines := new(testlog.Log)
	lax := newBus(t, registry, framework.Logger(lines.Logger()))
	ready(t, lax, "test.echo")
	for range 10 {
		if _, err := testv1.NewEchoServiceClient(lax).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
			t.Errorf("without StrictSchema Echo = %v", err)
		}
	}
	if _, err := testv1.NewEchoServiceClient(lax).Echo(t.Context(), &testv1.EchoRequest{}); err != nil { // over other connections
		t.Errorf("without StrictSchema Echo = %v", err)
	}
	eventually.True(t, "an incompatible schema", func() bool { return lax.Stats().IncompatibleSchemas > 0 })
	lines.Until(t, "request.text is number 1 here", 1)
	if got := lines.Count("test.echo.echo: request.text is number 1 here and number 2 there"); lax.Stats().IncompatibleSchemas != 1 || got != 1 {
		t.Errorf("%d incompatible schemas were counted and %d logged, want one:\n%s", lax.Stats().IncompatibleSchemas, got, lines.String())
	}

	strict := newBus(t, registry, framework.StrictSchema())
	_, err := testv1.NewEchoServiceClient(strict).Echo(t.Context(), &testv1.EchoRequest{})
	if status.Code(err) != codes.FailedPrecondition || framework.OutcomeOf(err) != framework.NotSent || !strings.Contains(err.Error(), "request.text is number 1 here and number 2 there") {
		t.Errorf("under StrictSchema Echo = %v", err)
	}
	// Each instance is checked separately: the compatible one is called.
	serveAny(t, registry.Registry, (&echo{echo: func(context.Context, string) (string, error) { return "compatible", nil }}).register)
	for range 20 {
		ready(t, strict, "test.echo")
		reply, err := testv1.NewEchoServiceClient(strict).Echo(t.Context(), &testv1.EchoRequest{})
		if err != nil || reply.GetText() != "compatible" {
			t.Fatalf("beside incompatible instances Echo = %v, %v", reply, err)
		}
	}
}

func TestACompatibleDifferenceIsSilent(t *testing.T) {
	t.Parallel()
	digest, packed := changed(t, func(file *descriptorpb.FileDescriptorProto) {
		file.Service[0].Method = append(file.Service[0].Method, &descriptorpb.MethodDescriptorProto{
			Name: new("EchoLate"), InputType: new(".onecall.test.v1.EchoRequest"), OutputType: new(".onecall.test.v1.EchoResponse"),
		})
		file.MessageType[1].Field = append(file.MessageType[1].Field, &descriptorpb.FieldDescriptorProto{
			Name: new("late"), Number: proto.Int32(7), Type: descriptorpb.FieldDescriptorProto_TYPE_BOOL.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		})
	})
	registry := publishing{memory.New(), digest, packed}
	serveAny(t, registry, (&echo{}).register)
	lines := new(testlog.Log)
	bus := newBus(t, registry, framework.StrictSchema(), framework.Logger(lines.Logger()))
	ready(t, bus, "test.echo")
	if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Errorf("Echo = %v", err)
	}
	if bus.Stats().IncompatibleSchemas != 0 || lines.Count("incompatible") != 0 {
		t.Errorf("%d incompatible schemas were counted, and the log has\n%s", bus.Stats().IncompatibleSchemas, lines.String())
	}
}

func TestASchemaThatCannotBeReadIsWaitedForUnderStrictSchemaAndSaid(t *testing.T) {
	t.Parallel()
	registry := publishing{memory.New(), "AAAAAAAAAAAAAAAAAAAAAA", "garbage"}
	serveAny(t, registry, (&echo{}).register)
	lax := newBus(t, registry)
	ready(t, lax, "test.echo")
	strict := testv1.NewEchoServiceClient(newBus(t, registry, framework.StrictSchema()))
	eventually.True(t, "a call that says that the schema can't be read", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		_, err := strict.Echo(ctx, &testv1.EchoRequest{})
		if status.Code(err) != codes.DeadlineExceeded || framework.OutcomeOf(err) != framework.NotSent {
			t.Fatalf("Echo = %v", err)
		}
		return strings.Contains(err.Error(), "option StrictSchema: its schema can't be read")
	})
	if _, err := testv1.NewEchoServiceClient(lax).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Errorf("without StrictSchema Echo = %v", err)
	}
}
