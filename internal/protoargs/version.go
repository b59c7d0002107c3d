package protoargs

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/quote"
	"github.com/onecall-dev/onecall/internal/schema"
)

// versions caches the differences between message types of the same full name, which may be
// from two versions of a .proto file.
type versions map[[2]protoreflect.MessageDescriptor][]schema.Difference

// copyMessage makes a message equal to another, which may have another Go type or be from
// another version of the .proto file. In that case it encodes and decodes the message. The
// bytes contain no names, and no types for most fields, so it first compares the two types.
// It copies nothing if bytes would be misread, and returns the differences.
func (v *versions) copyMessage(from, into protoreflect.Message, types Resolver) ([]schema.Difference, error) {
	if from.Descriptor() == into.Descriptor() {
		proto.Merge(into.Interface(), from.Interface())
		return nil, nil
	}
	key := [2]protoreflect.MessageDescriptor{from.Descriptor(), into.Descriptor()}
	differences, known := (*v)[key]
	if !known {
		differences = schema.Misread(from.Descriptor(), into.Descriptor())
		if *v == nil {
			*v = make(versions)
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

// parts returns the path of the field that differs. If an enum value differs, it also
// returns that value, followed by a space.
func parts(differs schema.Difference) (field, value string) {
	field, value, found := strings.Cut(differs.Part, " ")
	if found {
		value += " "
	}
	return field, value
}

// copyMessage copies a message of the same full name.
func (e *encoder) copyMessage(from proto.Message, into protoreflect.Message) bool {
	differences, err := e.versions.copyMessage(from.ProtoReflect(), into, e.plan.types)
	for _, differs := range differences {
		field, value := parts(differs)
		e.failAt(field, WrongType, "%sis %s in the message given, and %s in the schema: build both from one .proto", value, differs.Built, differs.Served)
	}
	switch {
	case len(differences) > 0:
		return false
	case err != nil:
		return e.fail(WrongType, "is a message that does not fit %s as the schema has it: build both from one .proto", into.Descriptor().FullName())
	case from.ProtoReflect().Descriptor() == into.Descriptor():
		return true
	}
	size := e.size // which was counted when the message was read
	ok := e.checkValid(into)
	e.size = size
	return ok
}

// copyMessage makes a message equal to another of the same full name.
func (d *decoder) copyMessage(from, into protoreflect.Message) error {
	proto.Reset(into.Interface())
	differences, err := d.versions.copyMessage(from, into, d.types)
	switch {
	case len(differences) > 0:
		field, value := parts(differences[0])
		d.path = append(d.path, fieldpath.Step{Field: field})
		return d.fail("%sis %s in the reply, and %s in the message given: build both from one .proto", value, differences[0].Built, differences[0].Served)
	case err != nil:
		return d.fail("is a %s that does not fit the one given: build both from one .proto", quote.Clip(string(into.Descriptor().FullName()), maxTypeEcho))
	default:
		return nil
	}
}
