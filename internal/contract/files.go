package contract

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Find reads the contract of the service of that full proto name out of files.
// The result is nil, without an error, when files do not hold it. Other errors
// are *Error.
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

// Named reads the contracts of all services in files that go by a bus name, in
// the order of their full names.
// Services with faults are passed over: they err when they are called.
func Named(files *protoregistry.Files, name string) []*API {
	var apis []*API
	files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		services := file.Services()
		for i := range services.Len() {
			if found, _, err := apiOptions(services.Get(i)); err != nil || found != name {
				continue
			}
			if api, err := FromDescriptor(services.Get(i)); err == nil {
				apis = append(apis, api)
			}
		}
		return true
	})
	slices.SortFunc(apis, func(a, b *API) int { return cmp.Compare(a.Service, b.Service) })
	return apis
}
