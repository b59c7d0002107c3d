package protoargs

import (
	"reflect"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// messageField fills a message that is the value of a field.
func (e *encoder) messageField(t *valueType, v any, into protoreflect.Message) bool {
	if !e.charge(2) {
		return false
	}
	if given, ok := v.(proto.Message); ok {
		return e.fromMessage(t, given, into)
	}
	m := t.message
	switch m.special {
	case timestamp, duration:
		return e.time(t, v, into)
	case object, jsonValue, jsonList:
		return e.json(t, v, into)
	case anyMessage:
		return e.anyField(t, v, into)
	case wrapper:
		set, ok := e.value(m.fields[0].value, v, protoreflect.Value{})
		if ok {
			into.Set(m.fields[0].desc, set)
		}
		return ok
	case fieldMask:
		return e.list(m.fields[0], into, v)
	default:
		args, ok := e.args(t, v)
		return ok && e.message(m, into, args)
	}
}

// args returns the named values in a map or a struct.
func (e *encoder) args(t *valueType, v any) (map[string]any, bool) {
	if args, ok := v.(map[string]any); ok {
		return args, true
	}
	at := reflect.ValueOf(v)
	switch {
	case at.Kind() == reflect.Map && at.Type().Key().Kind() == reflect.String:
		args := make(map[string]any, at.Len())
		for each := at.MapRange(); each.Next(); {
			args[each.Key().String()] = each.Value().Interface()
		}
		return args, true
	case at.Kind() == reflect.Struct && !isTime(v) && !isMessageStruct(v):
		return structArgs(t.message, at), true
	default:
		return nil, e.wrongType(t, v)
	}
}

func isTime(v any) bool {
	_, ok := v.(time.Time)
	return ok
}

// isMessageStruct reports whether v is a generated message that is not a pointer.
func isMessageStruct(v any) bool {
	at := reflect.TypeOf(v)
	return at != nil && at.Kind() == reflect.Struct && reflect.PointerTo(at).Implements(messageType)
}

var messageType = reflect.TypeFor[proto.Message]()

// time fills a Timestamp or a Duration. A map of their fields is needed for durations that
// are too long for a time.Duration.
func (e *encoder) time(t *valueType, v any, into protoreflect.Message) bool {
	switch given := v.(type) {
	case time.Time:
		if t.message.special != timestamp {
			return e.wrongType(t, v)
		}
		setSeconds(into, given.Unix(), int32(given.Nanosecond())) //nolint:gosec // below 10^9
	case time.Duration:
		if t.message.special != duration {
			return e.wrongType(t, v)
		}
		setSeconds(into, int64(given/time.Second), int32(given%time.Second))
	default:
		if reflect.ValueOf(v).Kind() != reflect.Map {
			return e.wrongType(t, v)
		}
		args, ok := e.args(t, v)
		if !ok || !e.message(t.message, into, args) {
			return false
		}
	}
	seconds, nanos := getSeconds(into)
	if t.message.special == timestamp {
		if !(&timestamppb.Timestamp{Seconds: seconds, Nanos: nanos}).IsValid() {
			return e.fail(OutOfRange, "is a time that google.protobuf.Timestamp does not hold: it begins with the year 1 and ends with 9999")
		}
		return true
	}
	if !(&durationpb.Duration{Seconds: seconds, Nanos: nanos}).IsValid() {
		return e.fail(OutOfRange, "is a time that google.protobuf.Duration does not hold: "+
			"it ends at 10,000 years to either side, and its seconds and nanos have one sign")
	}
	return true
}

// The fields of Timestamp and Duration.
const (
	secondsField = 1
	nanosField   = 2
)

func setSeconds(into protoreflect.Message, seconds int64, nanos int32) {
	fields := into.Descriptor().Fields()
	into.Set(fields.ByNumber(secondsField), protoreflect.ValueOfInt64(seconds))
	into.Set(fields.ByNumber(nanosField), protoreflect.ValueOfInt32(nanos))
}

func getSeconds(m protoreflect.Message) (seconds int64, nanos int32) {
	fields := m.Descriptor().Fields()
	return m.Get(fields.ByNumber(secondsField)).Int(), int32(m.Get(fields.ByNumber(nanosField)).Int()) //nolint:gosec // of kind int32
}
