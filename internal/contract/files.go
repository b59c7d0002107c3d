package contract

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Find reads the contract of a service. service is the full proto name. If files do not
// contain the service, the result is nil without an error. Errors are of type *Error.
func Find(files *protoregistry.Files, service string) (*API, error) {
	descriptor, err := files.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, nil //nolint:nilnil,nilerr // absence is an answer here: the only error of the look-up
	}
	found, ok := descriptor.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, &Error{Subject: service, Problem: "this is the name of another thing than a service: check the method's path"}
	}
	return FromDescriptor(found)
}
