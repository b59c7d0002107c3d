package contract_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/contract"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// keeping returns the .proto file of an RPC with an option and an idempotency level, whose
// reply has one field.
func keeping(t *testing.T, keep onecallv1.KeepReply, level contract.Idempotency, field *descriptorpb.FieldDescriptorProto) *protoregistry.Files {
	t.Helper()
	secret := &descriptorpb.FieldDescriptorProto{
		Name: new("secret"), Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
		Options: &descriptorpb.FieldOptions{DebugRedact: new(true)},
	}
	again := message("again", 2, ".shop.v1.Reply")
	reply := &descriptorpb.DescriptorProto{Name: new("Reply"), Field: []*descriptorpb.FieldDescriptorProto{again}, NestedType: []*descriptorpb.DescriptorProto{{
		Name:    new("ItemsEntry"),
		Options: &descriptorpb.MessageOptions{MapEntry: new(true)},
		Field: []*descriptorpb.FieldDescriptorProto{
			{Name: new("key"), Number: new(int32(1)), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum()}, message("value", 2, ".shop.v1.Secret"),
		},
	}}}
	if field != nil {
		reply.Field = append(reply.Field, field)
	}
	options := &descriptorpb.MethodOptions{IdempotencyLevel: level.Enum()}
	proto.SetExtension(options, onecallv1.E_Rpc, &onecallv1.RpcOptions{KeepReply: keep})
	built, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("shop/v1/shop.proto"), Package: new("shop.v1"), Syntax: new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{reply, {Name: new("Secret"), Field: []*descriptorpb.FieldDescriptorProto{secret}}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("ShopService"), Method: []*descriptorpb.MethodDescriptorProto{
			{Name: new("Buy"), InputType: new(".shop.v1.Reply"), OutputType: new(".shop.v1.Reply"), Options: options},
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	files := new(protoregistry.Files)
	if err := files.RegisterFile(built); err != nil {
		t.Fatal(err)
	}
	return files
}

// message returns a field whose type is a message.
func message(name string, number int32, of string) *descriptorpb.FieldDescriptorProto {
	return &descriptorpb.FieldDescriptorProto{Name: new(name), Number: new(number), Type: descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), TypeName: new(of)}
}

func TestRepliesWithoutSecretsAreKept(t *testing.T) {
	t.Parallel()
	const (
		unsaid      = onecallv1.KeepReply_KEEP_REPLY_UNSPECIFIED
		never       = onecallv1.KeepReply_KEEP_REPLY_NEVER
		always      = onecallv1.KeepReply_KEEP_REPLY_ALWAYS
		unknown     = contract.IdempotencyUnknown
		idempotent  = descriptorpb.MethodOptions_IDEMPOTENT
		sideEffects = descriptorpb.MethodOptions_NO_SIDE_EFFECTS
	)
	inMap := message("items", 3, ".shop.v1.Reply.ItemsEntry")
	inMap.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	for title, test := range map[string]struct {
		keep  onecallv1.KeepReply
		level contract.Idempotency
		field *descriptorpb.FieldDescriptorProto // of the reply
		want  bool
	}{
		"no option":                             {unsaid, unknown, nil, true},
		"idempotent":                            {unsaid, idempotent, nil, true},
		"without side effects":                  {unsaid, sideEffects, nil, false},
		"without side effects, but always":      {always, sideEffects, nil, true},
		"never":                                 {never, unknown, nil, false},
		"a secret in a message":                 {unsaid, unknown, message("inner", 3, ".shop.v1.Secret"), false},
		"a secret in a map":                     {unsaid, unknown, inMap, false},
		"a secret in a message, but always":     {always, unknown, message("inner", 3, ".shop.v1.Secret"), true},
		"a message of the same type, no secret": {unsaid, unknown, message("inner", 3, ".shop.v1.Reply"), true},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if got := contract.KeepsReply(keeping(t, test.keep, test.level, test.field), "/shop.v1.ShopService/Buy"); got != test.want {
				t.Errorf("KeepsReply = %t, want %t", got, test.want)
			}
		})
	}
	for _, path := range []string{"/shop.v1.ShopService/Sell", "/shop.v1/Reply", "shop.v1.ShopService/Buy", ""} {
		t.Run("unknown RPC "+path, func(t *testing.T) {
			t.Parallel()
			if contract.KeepsReply(keeping(t, always, unknown, nil), path) {
				t.Error("KeepsReply = true, want false: the reply may have secrets")
			}
		})
	}
}
