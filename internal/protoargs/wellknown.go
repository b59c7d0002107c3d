package protoargs

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// special is one of protobuf's well-known messages that have a Go value of their own.
type special int

const (
	ordinary special = iota
	timestamp
	duration
	anyMessage
	object    // google.protobuf.Struct
	jsonValue // google.protobuf.Value
	jsonList  // google.protobuf.ListValue
	fieldMask
	wrapper
)

// wellKnown are the messages that have a Go value of their own.
var wellKnown = map[protoreflect.FullName]struct {
	special special
	desc    protoreflect.MessageDescriptor
}{
	"google.protobuf.Timestamp":   {timestamp, (*timestamppb.Timestamp)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.Duration":    {duration, (*durationpb.Duration)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.Any":         {anyMessage, (*anypb.Any)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.Struct":      {object, (*structpb.Struct)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.Value":       {jsonValue, (*structpb.Value)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.ListValue":   {jsonList, (*structpb.ListValue)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.FieldMask":   {fieldMask, (*fieldmaskpb.FieldMask)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.DoubleValue": {wrapper, (*wrapperspb.DoubleValue)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.FloatValue":  {wrapper, (*wrapperspb.FloatValue)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.Int64Value":  {wrapper, (*wrapperspb.Int64Value)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.UInt64Value": {wrapper, (*wrapperspb.UInt64Value)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.Int32Value":  {wrapper, (*wrapperspb.Int32Value)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.UInt32Value": {wrapper, (*wrapperspb.UInt32Value)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.BoolValue":   {wrapper, (*wrapperspb.BoolValue)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.StringValue": {wrapper, (*wrapperspb.StringValue)(nil).ProtoReflect().Descriptor()},
	"google.protobuf.BytesValue":  {wrapper, (*wrapperspb.BytesValue)(nil).ProtoReflect().Descriptor()},
}

// specialOf returns which well-known message desc is. A message that has the name of one
// but other fields, as in a schema from elsewhere, is an ordinary message.
func specialOf(desc protoreflect.MessageDescriptor) special {
	known, ok := wellKnown[desc.FullName()]
	if !ok || desc != known.desc && !sameFields(desc, known.desc) {
		return ordinary
	}
	return known.special
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
