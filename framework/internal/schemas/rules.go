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
	rules := make(map[string]validate.Method, len(api.RPCs))
	for i := range api.RPCs {
		var err error
		if rules[api.RPCs[i].Method], err = CompileRule(api, &api.RPCs[i]); err != nil {
			return nil, err
		}
	}
	return rules, nil
}

// CompileRule compiles the rules of the messages of one RPC: see [CompileRules].
func CompileRule(api *contract.API, rpc *contract.RPC) (validate.Method, error) {
	service := LinkedService(api.Service)
	if service == nil {
		return validate.Method{RPC: rpc.Name}, nil
	}
	_, name, _ := contract.SplitMethod(rpc.Method)
	return validate.Compile(rpc.Name, service.Methods().ByName(protoreflect.Name(name)))
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
