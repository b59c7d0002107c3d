package contract

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Index finds services and methods in a set of .proto files by name. It reads a service when
// it is first looked up by its full proto name, and all services when one is first looked up
// by its bus name. It reads all again if it does not know a bus name and files were added.
// Other lookups take no lock of the index. Its methods are safe for concurrent use.
type Index struct {
	files    *protoregistry.Files
	services sync.Map // the services that were read, by full proto name: string to *Service

	mu     sync.Mutex // guards the building of tables
	tables atomic.Pointer[tables]
}

// Service is one service of an index. It is immutable.
type Service struct {
	// API is nil if the .proto file has an error.
	API *API
	// Err is the *Error of the .proto file, or nil.
	Err        error
	Descriptor protoreflect.ServiceDescriptor

	methods map[string]*Method // by gRPC's path
}

// Method is one RPC of an index. It is immutable.
type Method struct {
	Service    *Service
	RPC        *RPC
	Descriptor protoreflect.MethodDescriptor
}

// tables have the services and RPCs of an index by bus name. They are immutable: a new
// value replaces them.
type tables struct {
	files int // number of files that were read
	named map[string][]*Service
	rpcs  map[string]*Method
}

// NewIndex returns an index of files. It does not read them yet.
func NewIndex(files *protoregistry.Files) *Index { return &Index{files: files} }

// Service returns the service with a full proto name, or nil if there is none.
func (x *Index) Service(fullName string) *Service {
	if found := x.known(fullName); found != nil {
		return found
	}
	descriptor, _ := x.files.FindDescriptorByName(protoreflect.FullName(fullName))
	if service, ok := descriptor.(protoreflect.ServiceDescriptor); ok {
		return x.read(service)
	}
	return nil
}

// read reads a service, or returns it as it was read before.
func (x *Index) read(descriptor protoreflect.ServiceDescriptor) *Service {
	name := string(descriptor.FullName())
	if found := x.known(name); found != nil {
		return found
	}
	read := &Service{Descriptor: descriptor, methods: make(map[string]*Method)}
	if read.API, read.Err = FromDescriptor(descriptor); read.Err == nil {
		for i := range read.API.RPCs {
			rpc := &read.API.RPCs[i]
			read.methods[rpc.Method] = &Method{Service: read, RPC: rpc, Descriptor: descriptor.Methods().Get(i)}
		}
	}
	x.services.LoadOrStore(name, read)
	return x.known(name)
}

// known returns a service that was read, nil if it was not.
func (x *Index) known(fullName string) *Service {
	found, _ := x.services.Load(fullName)
	service, _ := found.(*Service)
	return service
}

// Find returns the contract of a service. service is the full proto name. If there is no
// such service, the result is nil without an error. Errors are of type *Error.
func (x *Index) Find(service string) (*API, error) {
	if found := x.Service(service); found != nil {
		return found.API, found.Err
	}
	return Find(x.files, service)
}

// Method returns the RPC with a gRPC path, such as "/auth.v1.AuthService/CheckPassword".
// It returns nil if there is none, or if the service's .proto file has an error.
func (x *Index) Method(path string) *Method {
	service, _, _ := SplitMethod(path)
	if found := x.Service(service); found != nil {
		return found.methods[path]
	}
	return nil
}

// RPC returns the RPC with a bus name, such as "auth.check_password", or nil if there is
// none. If several services of one API have such an RPC, it returns that of the first
// service in the order of full proto names. The name may also begin with the service's
// full proto name instead of the API's name.
func (x *Index) RPC(name string) *Method {
	known := x.tables.Load()
	if known != nil {
		if found := known.rpcs[name]; found != nil {
			return found
		}
	}
	if latest := x.current(); latest != known {
		return latest.rpcs[name]
	}
	return nil
}

// Named returns the services with a bus name, in the order of their full proto names. It
// omits services whose .proto file has an error.
func (x *Index) Named(api string) []*Service { return x.current().named[api] }

// current returns tables of all current files.
func (x *Index) current() *tables {
	if known := x.tables.Load(); known != nil && known.files == x.files.NumFiles() {
		return known
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var files []protoreflect.FileDescriptor
	// Read the descriptors after RangeFiles returns: reading one may take the lock that
	// RangeFiles holds.
	x.files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		files = append(files, file)
		return true
	})
	if known := x.tables.Load(); known != nil && known.files == len(files) {
		return known
	}
	built := x.build(files)
	x.tables.Store(built)
	return built
}

// build reads the services in files.
func (x *Index) build(files []protoreflect.FileDescriptor) *tables {
	out := &tables{files: len(files), named: make(map[string][]*Service), rpcs: make(map[string]*Method)}
	var services []*Service
	for _, file := range files {
		for i := range file.Services().Len() {
			if service := x.read(file.Services().Get(i)); service.Err == nil {
				services = append(services, service)
			}
		}
	}
	slices.SortFunc(services, func(a, b *Service) int { return cmp.Compare(a.API.Service, b.API.Service) })
	for _, service := range services {
		out.named[service.API.Name] = append(out.named[service.API.Name], service)
		for _, rpc := range service.API.RPCs {
			out.add(rpc.Name, service.methods[rpc.Method])
		}
	}
	// Last, because a bus name has precedence over a full proto name, which calls can use too.
	for _, service := range services {
		for _, rpc := range service.API.RPCs {
			method := service.methods[rpc.Method]
			out.add(RPCName(service.API.Service, string(method.Descriptor.Name())), method)
		}
	}
	return out
}

// add adds an RPC under a name, unless there is one.
func (t *tables) add(name string, method *Method) {
	if t.rpcs[name] == nil {
		t.rpcs[name] = method
	}
}
