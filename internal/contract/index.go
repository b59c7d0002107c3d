package contract

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Index finds services and methods in a set of .proto files by name. It reads all files
// when it is first used. It reads them again if it does not know a name and files were
// added. Other lookups take no lock. Its methods are safe for concurrent use.
type Index struct {
	files  *protoregistry.Files
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
}

// Method is one RPC of an index. It is immutable.
type Method struct {
	Service    *Service
	RPC        *RPC
	Descriptor protoreflect.MethodDescriptor
}

// tables are the contents of an index. They are immutable: a new value replaces them.
type tables struct {
	files    int // number of files that were read
	services map[string]*Service
	named    map[string][]*Service
	paths    map[string]*Method
	rpcs     map[string]*Method
}

// NewIndex returns an index of files. It does not read them yet.
func NewIndex(files *protoregistry.Files) *Index { return &Index{files: files} }

// Service returns the service with a full proto name, or nil if there is none.
func (x *Index) Service(fullName string) *Service {
	return find(x, fullName, func(t *tables) map[string]*Service { return t.services })
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
	return find(x, path, func(t *tables) map[string]*Method { return t.paths })
}

// RPC returns the RPC with a bus name, such as "auth.check_password", or nil if there is
// none. If several services of one API have such an RPC, it returns that of the first
// service in the order of full proto names. The name may also begin with the service's
// full proto name instead of the API's name.
func (x *Index) RPC(name string) *Method {
	return find(x, name, func(t *tables) map[string]*Method { return t.rpcs })
}

// Named returns the services with a bus name, in the order of their full proto names. It
// omits services whose .proto file has an error.
func (x *Index) Named(api string) []*Service { return x.current().named[api] }

// find looks up a name in a table, and again if files were added.
func find[T any](x *Index, name string, table func(*tables) map[string]*T) *T {
	known := x.tables.Load()
	if known != nil {
		if found := table(known)[name]; found != nil {
			return found
		}
	}
	if latest := x.current(); latest != known {
		return table(latest)[name]
	}
	return nil
}

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
	built := build(files)
	x.tables.Store(built)
	return built
}

// build reads the services in files.
func build(files []protoreflect.FileDescriptor) *tables {
	out := &tables{
		files:    len(files),
		services: make(map[string]*Service), named: make(map[string][]*Service),
		paths: make(map[string]*Method), rpcs: make(map[string]*Method),
	}
	var services []*Service
	for _, file := range files {
		for i := range file.Services().Len() {
			descriptor := file.Services().Get(i)
			api, err := FromDescriptor(descriptor)
			services = append(services, &Service{API: api, Err: err, Descriptor: descriptor})
		}
	}
	slices.SortFunc(services, func(a, b *Service) int { return cmp.Compare(a.Descriptor.FullName(), b.Descriptor.FullName()) })
	for _, service := range services {
		out.add(service)
	}
	// Last, because a bus name has precedence over a full proto name.
	for _, service := range services {
		out.addByFullName(service)
	}
	return out
}

// add adds a service under its API's name.
func (t *tables) add(service *Service) {
	t.services[string(service.Descriptor.FullName())] = service
	if service.Err != nil {
		return
	}
	api := service.API
	t.named[api.Name] = append(t.named[api.Name], service)
	for i := range api.RPCs {
		method := &Method{Service: service, RPC: &api.RPCs[i], Descriptor: service.Descriptor.Methods().Get(i)}
		t.paths[method.RPC.Method] = method
		if t.rpcs[method.RPC.Name] == nil {
			t.rpcs[method.RPC.Name] = method
		}
	}
}

// addByFullName adds the RPCs of a service under its full proto name. Calls can use that
// name too.
func (t *tables) addByFullName(service *Service) {
	if service.Err != nil {
		return
	}
	for i := range service.API.RPCs {
		method := t.paths[service.API.RPCs[i].Method]
		name := RPCName(service.API.Service, string(method.Descriptor.Name()))
		if t.rpcs[name] == nil {
			t.rpcs[name] = method
		}
	}
}
