package encode

import (
	"reflect"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/protoargs"
)

// messageValue fills a message that is the value of a field. Nil is valid only for a Value.
func (e *encoder) messageValue(into protoreflect.Message, v any) bool {
	special := protoargs.SpecialOf(into.Descriptor())
	if v != nil || special != protoargs.Value {
		var ok bool
		if v, ok = e.deref(v); !ok {
			return false
		}
	}
	if !e.charge(1) {
		return false
	}
	if given, ok := v.(proto.Message); ok {
		return e.fromMessage(given, into)
	}
	switch special {
	case protoargs.Timestamp, protoargs.Duration:
		return e.time(v, into)
	case protoargs.Struct, protoargs.ListValue:
		return e.jsonParts(v, into)
	case protoargs.Value:
		return e.jsonValue(v, into)
	case protoargs.Any:
		return e.anyField(v, into)
	case protoargs.Wrapper, protoargs.FieldMask:
		return e.set(into.Descriptor().Fields().Get(0), into, v)
	default:
		args, ok := e.args(into.Descriptor(), v)
		return ok && e.message(into, args)
	}
}

// args returns the named values in a map or a struct.
func (e *encoder) args(desc protoreflect.MessageDescriptor, v any) (map[string]any, bool) {
	if args, ok := v.(map[string]any); ok {
		return args, true
	}
	at := reflect.ValueOf(v)
	switch {
	case isObject(at):
		args := make(map[string]any, at.Len())
		for each := at.MapRange(); each.Next(); {
			args[each.Key().String()] = each.Value().Interface()
		}
		return args, true
	case at.Kind() == reflect.Struct && at.Type() != protoargs.TimeType && !isMessageStruct(v):
		return structArgs(desc, at), true
	default:
		return nil, e.wrongType(desc, v)
	}
}

// isObject reports whether a value is a map with string keys.
func isObject(at reflect.Value) bool {
	return at.Kind() == reflect.Map && at.Type().Key().Kind() == reflect.String
}

// isMessageStruct reports whether v is a generated message that is not a pointer.
func isMessageStruct(v any) bool {
	at := reflect.TypeOf(v)
	return at != nil && at.Kind() == reflect.Struct && reflect.PointerTo(at).Implements(protoargs.MessageType)
}

// structArgs returns the values of a struct's fields by name. It omits nil values, and
// those that the json tag omits. It keeps a nil slice or map for a required field, where
// it is an empty value.
func structArgs(desc protoreflect.MessageDescriptor, at reflect.Value) map[string]any {
	fields := protoargs.FieldsOf(at.Type())
	args := make(map[string]any, len(fields))
	for _, f := range fields {
		v, err := at.FieldByIndexErr(f.Index)
		if err != nil || !v.CanInterface() || f.OmitZero && v.IsZero() || f.OmitEmpty && isEmpty(v) {
			continue
		}
		switch known := desc.Fields().ByName(protoreflect.Name(f.Name)); v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if v.IsNil() {
				continue
			}
		case reflect.Slice, reflect.Map:
			if v.IsNil() && (known == nil || !contract.Required(known)) {
				continue
			}
		default:
		}
		args[f.Name] = v.Interface()
	}
	return args
}

// isEmpty reports whether encoding/json considers a value empty.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

// time fills a Timestamp or a Duration. A map of their fields is needed for durations that
// are too long for a time.Duration.
func (e *encoder) time(v any, into protoreflect.Message) bool {
	var made proto.Message
	switch given := v.(type) {
	case time.Time:
		made = timestamppb.New(given)
	case time.Duration:
		made = durationpb.New(given)
	}
	switch {
	case made == nil && reflect.ValueOf(v).Kind() == reflect.Map:
		args, ok := e.args(into.Descriptor(), v)
		if !ok || !e.message(into, args) {
			return false
		}
	case made == nil || made.ProtoReflect().Descriptor().FullName() != into.Descriptor().FullName():
		return e.wrongType(into.Descriptor(), v)
	case !e.copyMessage(made, into):
		return false
	}
	switch read := protoargs.Generated(into).(type) {
	case *timestamppb.Timestamp:
		if !read.IsValid() {
			return e.fail(OutOfRange, "is a time that google.protobuf.Timestamp does not hold: it begins with the year 1 and ends with 9999")
		}
	case *durationpb.Duration:
		if !read.IsValid() {
			return e.fail(OutOfRange, "is a time that google.protobuf.Duration does not hold: "+
				"it ends at 10,000 years to either side, and its seconds and nanos have one sign")
		}
	}
	return true
}
