package schematest

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schema"
	"github.com/onecall-dev/onecall/internal/schemafile"
)

// Fits tests a caller: it compares the RPCs that the caller uses, as linked into the test,
// with the schemas in a file of [Dump]. The test fails with all that breaks. rpcs are the
// RPCs that the caller uses, by bus name or gRPC's path. Without any, they are all RPCs of
// the APIs in the file that are linked in.
func Fits(tb testing.TB, path string, rpcs ...string) {
	tb.Helper()
	content := mustRead(tb, path)
	if content.Caller != "" {
		tb.Fatalf("schematest: %s has what the caller %s uses: test it with FitsCaller, in the service", path, content.Caller)
	}
	for _, method := range usedRPCs(tb, path, content, rpcs) {
		for _, one := range content.APIs {
			if method.Service.API.Service != one.Service {
				continue
			}
			served := mustUnpack(tb, path, one)
			for _, difference := range compare(method.Service.API.Name, method.Descriptor, one.API, served.Service) {
				tb.Errorf("schematest: this caller breaks with %s in %s: %s", one, filepath.Base(path), words(difference, "for this caller", "for the service"))
			}
		}
	}
}

// usedRPCs returns the linked RPCs that a caller uses, and fails the test for those that
// cannot be compared.
func usedRPCs(tb testing.TB, path string, content schemafile.File, rpcs []string) []*contract.Method {
	tb.Helper()
	if len(rpcs) == 0 {
		used := linkedOf(content)
		if len(used) == 0 {
			tb.Errorf("schematest: no API of %s is linked into the test: import its generated code", path)
		}
		return used
	}
	var used []*contract.Method
	for _, name := range rpcs {
		method := linkedRPC(name)
		switch {
		case method == nil:
			tb.Errorf("schematest: no RPC %q is linked into the test: import its generated code", name)
		case !slices.ContainsFunc(content.APIs, func(a schemafile.API) bool { return a.Service == method.Service.API.Service }):
			tb.Errorf("schematest: %s has no schema of %s, which has the RPC %s: dump that API too", path, method.Service.API.Service, method.RPC.Name)
		default:
			used = append(used, method)
		}
	}
	return used
}

// linkedOf returns all RPCs of the APIs in a file that are linked in.
func linkedOf(content schemafile.File) []*contract.Method {
	index := contracts()
	seen := make(map[string]bool)
	var used []*contract.Method
	for _, one := range content.APIs {
		service := index.Service(one.Service)
		if service == nil || service.API == nil || seen[one.Service] {
			continue
		}
		seen[one.Service] = true
		for _, rpc := range service.API.RPCs {
			used = append(used, index.Method(rpc.Method))
		}
	}
	return used
}

// FitsCaller tests a service: it compares the RPCs that a caller uses, in a file of
// [DumpCalls], with the schemas that are linked into the test. The test fails with all that
// breaks for that caller.
func FitsCaller(tb testing.TB, path string) {
	tb.Helper()
	content := mustRead(tb, path)
	if content.Caller == "" {
		tb.Fatalf("schematest: %s has the schemas of services: test it with Fits, in a caller", path)
	}
	for _, one := range content.APIs {
		service := contracts().Service(one.Service)
		if service == nil || service.API == nil {
			tb.Errorf("schematest: the caller %s breaks: it uses %s, and no such service is linked into the test", content.Caller, one)
			continue
		}
		built := mustUnpack(tb, path, one)
		for i := range built.Service.Methods().Len() {
			method := built.Service.Methods().Get(i)
			if !slices.Contains(one.RPCs, contract.RPCName(one.API, string(method.Name()))) {
				continue
			}
			for _, difference := range compare(one.API, method, service.API.Name, service.Descriptor) {
				tb.Errorf("schematest: the caller %s breaks: %s", content.Caller, words(difference, "for the caller", "for this service"))
			}
		}
	}
}

func mustRead(tb testing.TB, path string) schemafile.File {
	tb.Helper()
	content, err := schemafile.Read(path)
	if err != nil {
		tb.Fatalf("schematest: %v", err)
	}
	return content
}

func mustUnpack(tb testing.TB, path string, one schemafile.API) *schema.Schema {
	tb.Helper()
	found, err := one.Unpack()
	if err != nil {
		tb.Fatalf("schematest: %s: %v", path, err)
	}
	return found
}

// compare returns how an RPC of a caller is incompatible with the schema of a service. Both
// have the API under a bus name.
func compare(builtName string, built protoreflect.MethodDescriptor, servedName string, served protoreflect.ServiceDescriptor) []schema.Difference {
	if builtName != servedName {
		rpc := contract.RPCName(builtName, string(built.Name()))
		return []schema.Difference{{Part: "the API of " + rpc, Built: "named " + builtName, Served: "named " + servedName}}
	}
	return schema.CompareRPC(builtName, built, served)
}

// words returns a difference as text, with words for its two sides.
func words(d schema.Difference, built, served string) string {
	switch {
	case d.Served == "":
		return fmt.Sprintf("%s is %s %s, and gone %s", d.Part, d.Built, built, served)
	case d.Built == "":
		return fmt.Sprintf("%s is %s %s, and unknown %s", d.Part, d.Served, served, built)
	default:
		return fmt.Sprintf("%s is %s %s, and %s %s", d.Part, d.Built, built, d.Served, served)
	}
}
