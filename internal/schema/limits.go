package schema

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// The limits of descriptors that are published, or read from a registry. An API of some
// hundred messages needs a tenth of them. The limits are needed because repeated bytes
// compress to almost nothing, and each part takes up to a kilobyte of memory.
const (
	// maxUnpacked bounds the bytes of uncompressed descriptors.
	maxUnpacked = 4 << 20
	// maxParts bounds the number of messages, fields, options, comments and so on.
	maxParts = 20_000
	// maxNesting bounds the depth of messages inside messages.
	maxNesting = 100
	// maxNames bounds the bytes of all full names. A full name contains the names of all
	// parts around it.
	maxNames = 8 << 20
	// maxImports bounds the public imports that are followed. protodesc follows an import
	// one time for each path of imports to it.
	maxImports = 100_000
)

// checkSize returns an error if encoded descriptors are too large or have too many parts.
// It does not decode them.
func checkSize(data []byte) error {
	if len(data) > maxUnpacked {
		return fmt.Errorf("have more than %d bytes when they are not compressed", maxUnpacked)
	}
	left := maxParts
	if !countParts((&descriptorpb.FileDescriptorSet{}).ProtoReflect().Descriptor(), data, maxNesting, &left) {
		return fmt.Errorf("have more than %d parts, or more than %d within each other", maxParts, maxNesting)
	}
	return nil
}

// checkNames returns an error if the names or imports of descriptors would need much more
// memory or time than their parts.
func checkNames(set *descriptorpb.FileDescriptorSet) error {
	names := maxNames
	walks := make(map[string]int, len(set.GetFile())) // number of public imports that are followed from a file
	for _, file := range set.GetFile() {
		names -= namesOf(file.ProtoReflect(), len(file.GetPackage())+1)
		if names < 0 {
			return fmt.Errorf("have names of more than %d bytes", maxNames)
		}
		for _, i := range file.GetPublicDependency() {
			if i >= 0 && int(i) < len(file.GetDependency()) {
				walks[file.GetName()] += 1 + walks[file.GetDependency()[i]]
			}
		}
		if walks[file.GetName()] > maxImports {
			return fmt.Errorf("have public imports that lead to more than %d others", maxImports)
		}
	}
	total := 0
	for _, file := range set.GetFile() {
		for _, path := range file.GetDependency() {
			total += walks[path]
			if total > maxImports {
				return fmt.Errorf("have public imports that lead to more than %d others", maxImports)
			}
		}
	}
	return nil
}

// namesOf returns the total bytes of the full names in a part of a file. scope is the bytes
// of the full name of what contains the names, with a dot.
func namesOf(part protoreflect.Message, scope int) (total int) {
	part.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if !field.IsList() || field.Message() == nil {
			return true
		}
		name := field.Message().Fields().ByName("name")
		if name == nil {
			return true
		}
		for i := range value.List().Len() {
			named := value.List().Get(i).Message()
			full := scope + len(named.Get(name).String())
			inside := full + 1
			if _, ok := named.Interface().(*descriptorpb.EnumDescriptorProto); ok {
				inside = scope // the values of an enum are named like the enum's siblings
			}
			total += full + namesOf(named, inside)
		}
		return true
	})
	return total
}

// countParts subtracts the parts of an encoded message from left: its messages, and the
// elements of its repeated strings and bytes. It returns false if left becomes negative or
// the nesting is too deep. Malformed bytes are left for the decoder to report.
func countParts(of protoreflect.MessageDescriptor, data []byte, depth int, left *int) bool {
	if depth == 0 {
		return false
	}
	for part := range fieldsIn(data) {
		field := fieldOf(of, part.number)
		if field == nil || part.kind != protowire.BytesType || field.Message() == nil && !field.IsList() {
			continue
		}
		*left--
		if *left < 0 {
			return false
		}
		content, _ := protowire.ConsumeBytes(part.value)
		if field.Message() != nil && !countParts(field.Message(), content, depth-1, left) {
			return false
		}
	}
	return true
}

// fieldOf returns a field, or an option that the program knows. It returns nil if there is
// none.
func fieldOf(of protoreflect.MessageDescriptor, number protoreflect.FieldNumber) protoreflect.FieldDescriptor {
	if field := of.Fields().ByNumber(number); field != nil {
		return field
	}
	if extension, err := protoregistry.GlobalTypes.FindExtensionByNumber(of.FullName(), number); err == nil {
		return extension.TypeDescriptor()
	}
	return nil
}
