package schema

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/contract"
)

// Changes returns how a new version of an API breaks programs that were built with an old
// one: what [Compare] returns, and what breaks only generated code or calls by name. Both
// are under their bus names. In each Difference, Built is from the old version and Served
// from the new one. It returns at most the first [MaxDifferences].
func Changes(oldName string, before protoreflect.ServiceDescriptor, newName string, after protoreflect.ServiceDescriptor) []Difference {
	c := &comparison{seen: make(map[pair]bool), all: true}
	if oldName != newName {
		c.add(APIRenamed, oldName, "named "+oldName, "named "+newName)
	}
	if before.FullName() != after.FullName() {
		c.add(ServiceRenamed, oldName, "/"+string(before.FullName()), "/"+string(after.FullName()))
	}
	if left, right := goPackage(before), goPackage(after); left != right {
		c.add(GoPackageChanged, oldName, left, right)
	}
	c.packages = [2]protoreflect.FullName{before.ParentFile().Package(), after.ParentFile().Package()}
	return c.rpcs(oldName, methodsOf(before), after)
}

// Removed returns the change of an API that is no longer there.
func Removed(name string) Difference {
	return Difference{Kind: APIRemoved, Part: name, Built: "an API"}
}

func goPackage(service protoreflect.ServiceDescriptor) string {
	options, ok := service.ParentFile().Options().(*descriptorpb.FileOptions)
	if !ok {
		return ""
	}
	return options.GetGoPackage()
}

// renamed reports whether a message or an enum has another name, besides that of the
// service's package.
func (c *comparison) renamed(before, after protoreflect.Descriptor) bool {
	if !c.all {
		return false
	}
	moved, ours := strings.CutPrefix(string(before.FullName()), string(c.packages[0])+".")
	if ours {
		return string(after.FullName()) != string(c.packages[1])+"."+moved
	}
	return before.FullName() != after.FullName()
}

// rpcGone adds that an RPC is gone, or renamed: if a new one has the same messages and
// shape.
func (c *comparison) rpcGone(api string, here protoreflect.MethodDescriptor, served protoreflect.ServiceDescriptor) {
	name := contract.RPCName(api, string(here.Name()))
	before, _ := here.Parent().(protoreflect.ServiceDescriptor)
	for _, there := range methodsOf(served) {
		isNew := before.Methods().ByName(there.Name()) == nil
		if c.all && isNew && shape(here) == shape(there) && !c.renamed(here.Input(), there.Input()) && !c.renamed(here.Output(), there.Output()) {
			c.add(RPCRenamed, name, "an RPC", "named "+contract.RPCName(api, string(there.Name())))
			return
		}
	}
	c.add(RPCRemoved, name, "an RPC", "")
}

// valueGone adds that a value of an enum is gone, or renamed: if a new one has its number.
func (c *comparison) valueGone(at string, value protoreflect.EnumValueDescriptor, here, there protoreflect.EnumDescriptor) {
	was := fmt.Sprintf("number %d", value.Number())
	taken := there.Values().ByNumber(value.Number())
	if c.all && taken != nil && here.Values().ByName(taken.Name()) == nil {
		c.add(ValueRenamed, at, was, "named "+string(taken.Name()))
		return
	}
	c.add(ValueRemoved, at, was, "")
}

// takenBy returns the kind of the change that another field has the number of a field.
func takenBy(here, taken protoreflect.FieldDescriptor) Kind {
	if kind(here) == kind(taken) && cardinality(here) == cardinality(taken) {
		return FieldRenamed
	}
	return NumberReused
}

// idempotent reports whether an RPC declares that it may run more than once.
func idempotent(method protoreflect.MethodDescriptor) bool {
	options, ok := method.Options().(*descriptorpb.MethodOptions)
	return ok && options.GetIdempotencyLevel() != contract.IdempotencyUnknown
}
