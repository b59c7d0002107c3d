package schemas

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/contract"
)

// CompileRules compiles the rules of an API's messages, by gRPC's path. An API has no
// rules if its descriptor is not linked into the program.
func CompileRules(api *contract.API) (map[string]validate.Method, error) {
	service := LinkedService(api.Service)
	rules := make(map[string]validate.Method, len(api.RPCs))
	for _, rpc := range api.RPCs {
		rules[rpc.Method] = validate.Method{RPC: rpc.Name}
		if service == nil {
			continue
		}
		_, name, _ := contract.SplitMethod(rpc.Method)
		compiled, err := validate.Compile(rpc.Name, service.Methods().ByName(protoreflect.Name(name)))
		if err != nil {
			return nil, err
		}
		rules[rpc.Method] = compiled
	}
	return rules, nil
}

// LinkedService returns the descriptor of a service, nil if it is not linked into the
// program.
func LinkedService(name string) protoreflect.ServiceDescriptor {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil
	}
	service, _ := found.(protoreflect.ServiceDescriptor)
	return service
}
