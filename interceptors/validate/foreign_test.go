package validate_test

import (
	"fmt"
	"testing"

	rules "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/interceptors/validate"
)

// The number of compiled rules is bounded for a schema that is not linked into the program.
func TestTheRulesOfAForeignSchemaAreBounded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		fields  int
		checked bool
	}{
		"as many as are compiled": {500, true},
		"one more":                {501, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := &descriptorpb.DescriptorProto{Name: new("Request")}
			options := &descriptorpb.FieldOptions{}
			proto.SetExtension(options, rules.E_Field, &rules.FieldRules{Required: new(true)})
			for i := range test.fields {
				request.Field = append(request.Field, &descriptorpb.FieldDescriptorProto{
					Name: new(fmt.Sprintf("field_%d", i)), Number: new(int32(1 + i)), Options: options,
					Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
				})
			}
			file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
				Name: new("foreign.proto"), Package: new("foreign.v1"), Syntax: new("proto3"), Dependency: []string{"buf/validate/validate.proto"},
				MessageType: []*descriptorpb.DescriptorProto{request, {Name: new("Reply")}},
				Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Service"), Method: []*descriptorpb.MethodDescriptorProto{
					{Name: new("Do"), InputType: new(".foreign.v1.Request"), OutputType: new(".foreign.v1.Reply")},
				}}},
			}, protoregistry.GlobalFiles)
			if err != nil {
				t.Fatal(err)
			}
			method := file.Services().Get(0).Methods().Get(0)
			compiled, err := validate.NewCompiler(protoregistry.GlobalTypes).Compile("foreign.do", method)
			if err != nil || compiled.Checks() != test.checked {
				t.Errorf("with %d fields that have a rule: checked is %v (%v), want %v", test.fields, compiled.Checks(), err, test.checked)
			}
		})
	}
}
