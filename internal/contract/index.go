package contract

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Index finds the services and methods of a set of .proto files by their names. It
// reads all files at its first use, and again when it is asked for a name that it
// does not have and files were added. Other look-ups take no lock. Its methods
// are safe for all goroutines.
type Index struct {
	files  *protoregistry.Files
	mu     sync.Mutex // guards the building of tables
	tables atomic.Pointer[tables]
}

// Service is one service of an index. It never changes.
type Service struct {
	// API is nil if the .proto has an error.
	API *API
	// Err is the *Error of the .proto, or nil.
	Err        error
	Descriptor protoreflect.ServiceDescriptor
}

// Method is one RPC of an index. It never changes.
type Method struct {
	Service    *Service
	RPC        *RPC
	Descriptor protoreflect.MethodDescriptor
}

// tables are what an index read from files. They are replaced, never changed.
type tables struct {
	files    int // how many files were read
	services map[string]*Service
	named    map[string][]*Service
	paths    map[string]*Method
	rpcs     map[string]*Method
}

// NewIndex returns an index of files, which it does not read yet.
func NewIndex(files *protoregistry.Files) *Index { return &Index{files: files} }

// Service returns the service of a full proto name, or nil if there is none.
func (x *Index) Service(fullName string) *Service {
	return find(x, fullName, func(t *tables) map[string]*Service { return t.services })
}

// Find returns the contract of the service of a full proto name. The result is nil,
// without an error, if there is no such service. Errors are *Error.
func (x *Index) Find(service string) (*API, error) {
	if found := x.Service(service); found != nil {
		return found.API, found.Err
	}
	return Find(x.files, service)
}

// Method returns the RPC of a gRPC path, such as "/auth.v1.AuthService/CheckPassword",
// or nil if there is none or the service's .proto has an error.
func (x *Index) Method(path string) *Method {
	return find(x, path, func(t *tables) map[string]*Method { return t.paths })
}

// RPC returns the RPC of a bus name, such as "auth.check_password", or nil if there
// is none. If several services of one API have it, the first by its full proto name
// is returned. In place of the API's name there may be its service's full proto name.
func (x *Index) RPC(name string) *Method {
	return find(x, name, func(t *tables) map[string]*Method { return t.rpcs })
}

// Named returns the services of a bus name, in the order of their full proto names.
// Services whose .proto has an error are not among them.
func (x *Index) Named(api string) []*Service { return x.current().named[api] }

// find looks a name up in a table, and once more if files were added.
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

// current returns the tables of all files that there are now.
func (x *Index) current() *tables {
	if known := x.tables.Load(); known != nil && known.files == x.files.NumFiles() {
		return known
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	var files []protoreflect.FileDescriptor
	// Descriptors are read after RangeFiles has returned: to read one may take the
	// lock that RangeFiles holds.
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

// build reads the services of files.
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
	// Only now, as a bus name comes before a full proto name.
	for _, service := range services {
		out.addByFullName(service)
	}
	return out
}

// add adds a service by its API's name.
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

// addByFullName adds the RPCs of a service by its full proto name, as it can be
// called too.
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
