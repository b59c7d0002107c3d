package protoargs

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/schema"
)

// Versions caches the differences between message types of the same full name, which may be
// from two versions of a .proto file.
type Versions map[[2]protoreflect.MessageDescriptor][]schema.Difference

// Copy makes a message equal to another, which may have another Go type or be from
// another version of the .proto file. In that case it encodes and decodes the message. The
// bytes contain no names, and no types for most fields, so it first compares the two types.
// It copies nothing if bytes would be misread, and returns the differences.
func (v *Versions) Copy(from, into protoreflect.Message, types Resolver) ([]schema.Difference, error) {
	if from.Descriptor() == into.Descriptor() {
		proto.Merge(into.Interface(), from.Interface())
		return nil, nil
	}
	key := [2]protoreflect.MessageDescriptor{from.Descriptor(), into.Descriptor()}
	differences, known := (*v)[key]
	if !known {
		differences = schema.Misread(from.Descriptor(), into.Descriptor())
		if *v == nil {
			*v = make(Versions)
		}
		(*v)[key] = differences
	}
	if len(differences) > 0 {
		return differences, nil
	}
	data, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(from.Interface())
	if err != nil {
		return nil, err
	}
	return nil, proto.UnmarshalOptions{AllowPartial: true, Merge: true, Resolver: types}.Unmarshal(data, into.Interface())
}

// Parts returns the path of the field that differs. If an enum value differs, it also
// returns that value, followed by a space.
func Parts(differs schema.Difference) (field, value string) {
	field, value, found := strings.Cut(differs.Part, " ")
	if found {
		value += " "
	}
	return field, value
}
