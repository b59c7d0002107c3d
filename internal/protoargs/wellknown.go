package protoargs

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Special is the name of one of protobuf's well-known messages that have a Go value of
// their own.
type Special protoreflect.Name

// The well-known messages.
const (
	Ordinary  Special = "" // any other message
	Timestamp Special = "Timestamp"
	Duration  Special = "Duration"
	Any       Special = "Any"
	Struct    Special = "Struct"
	Value     Special = "Value"
	ListValue Special = "ListValue"
	FieldMask Special = "FieldMask"
	Wrapper   Special = "Wrapper" // each message of wrappers.proto
)

// wellKnown are the descriptors of the well-known messages.
var wellKnown = func() map[protoreflect.FullName]protoreflect.MessageDescriptor {
	known := make(map[protoreflect.FullName]protoreflect.MessageDescriptor)
	for _, file := range []protoreflect.FileDescriptor{
		timestamppb.File_google_protobuf_timestamp_proto, durationpb.File_google_protobuf_duration_proto, anypb.File_google_protobuf_any_proto,
		structpb.File_google_protobuf_struct_proto, fieldmaskpb.File_google_protobuf_field_mask_proto, wrapperspb.File_google_protobuf_wrappers_proto,
	} {
		for i := range file.Messages().Len() {
			known[file.Messages().Get(i).FullName()] = file.Messages().Get(i)
		}
	}
	return known
}()

// SpecialOf returns which well-known message desc is. A message that has the name of one
// but other fields, as in a schema from elsewhere, is an ordinary message.
func SpecialOf(desc protoreflect.MessageDescriptor) Special {
	known, ok := wellKnown[desc.FullName()]
	switch {
	case !ok || desc != known && !sameFields(desc, known):
		return Ordinary
	case known.ParentFile() == wrapperspb.File_google_protobuf_wrappers_proto:
		return Wrapper
	default:
		return Special(known.Name())
	}
}

// Generated returns a well-known message with its generated type, nil if m is another
// message. It converts a dynamic message through its bytes.
func Generated(m protoreflect.Message) proto.Message {
	if SpecialOf(m.Descriptor()) == Ordinary {
		return nil
	}
	own, err := protoregistry.GlobalTypes.FindMessageByName(m.Descriptor().FullName())
	if err != nil {
		return nil
	}
	if m.Type() == own {
		return m.Interface()
	}
	made := own.New().Interface()
	data, err := proto.Marshal(m.Interface())
	if err != nil || proto.Unmarshal(data, made) != nil {
		return nil
	}
	return made
}

// sameFields reports whether two messages have the same fields.
func sameFields(a, b protoreflect.MessageDescriptor) bool {
	if a.Fields().Len() != b.Fields().Len() {
		return false
	}
	for i := range a.Fields().Len() {
		one := a.Fields().Get(i)
		other := b.Fields().ByNumber(one.Number())
		if other == nil || !sameField(one, other) {
			return false
		}
	}
	return true
}

func sameField(a, b protoreflect.FieldDescriptor) bool {
	if a.Name() != b.Name() || a.Kind() != b.Kind() || a.Cardinality() != b.Cardinality() || a.IsMap() != b.IsMap() ||
		(a.ContainingOneof() == nil) != (b.ContainingOneof() == nil) {
		return false
	}
	if a.IsMap() {
		return sameField(a.MapKey(), b.MapKey()) && sameField(a.MapValue(), b.MapValue())
	}
	return a.Message() == nil || a.Message().FullName() == b.Message().FullName()
}
