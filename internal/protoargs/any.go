package protoargs

import (
	"maps"
	"reflect"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/quote"
)

const (
	// typeKey is the key of the type URL in the map of an Any, as in protobuf's JSON.
	typeKey = "@type"
	// valueKey is the key in that map for a value that has no named fields.
	valueKey = "value"
	// typePrefix is the prefix of the type URLs that this package creates.
	typePrefix = "type.googleapis.com/"
)

// The fields of Any.
const (
	typeURLField  = 1
	anyValueField = 2
)

// anyField fills an Any from a map with "@type".
func (e *encoder) anyField(t *valueType, v any, into protoreflect.Message) bool {
	if reflect.ValueOf(v).Kind() != reflect.Map {
		return e.wrongType(t, v)
	}
	given, ok := e.args(t, v)
	if !ok {
		return false
	}
	url, ok := basicText(given[typeKey])
	if ok && url == "" && holdsNothing(given) {
		return true
	}
	if !ok || url == "" {
		return e.failAt(typeKey, Missing, "is missing: it takes the message's type, such as %q", typePrefix+"auth.v1.User")
	}
	if !e.validText(url) {
		return false
	}
	rest := maps.Clone(given)
	delete(rest, typeKey)
	goType, err := e.plan.types.FindMessageByURL(url)
	if err != nil {
		return e.unknownType(url, rest, into)
	}
	inside := &valueType{kind: protoreflect.MessageKind, message: compile(goType.Descriptor())}
	packed := goType.New()
	if inside.message.special != ordinary {
		ok = e.onlyValue(inside, rest, packed)
	} else {
		ok = e.message(inside.message, packed, rest)
	}
	return ok && e.pack(packed.Interface(), url, into)
}

// holdsNothing reports whether a map is that of an empty Any.
func holdsNothing(given map[string]any) bool {
	data, ok := given[valueKey].([]byte)
	return len(given) == 2 && ok && len(data) == 0
}

func basicText(v any) (string, bool) {
	if v == nil {
		return "", false
	}
	text, ok := basic(v).(string)
	return text, ok
}

// onlyValue fills a message that has a Go value of its own from the map's "value".
func (e *encoder) onlyValue(t *valueType, rest map[string]any, packed protoreflect.Message) bool {
	v, ok := rest[valueKey]
	if !ok || len(rest) != 1 {
		return e.fail(Missing, "takes %q and %q, and nothing else: the value is %s", typeKey, valueKey, t.wants())
	}
	if !e.enter() {
		return false
	}
	defer e.leave()
	e.push(fieldpath.Step{Field: valueKey})
	defer e.pop()
	v, ok = e.deref(t, v)
	return ok && e.messageField(t, v, packed)
}

// unknownType fills an Any whose type is not known.
func (e *encoder) unknownType(url string, rest map[string]any, into protoreflect.Message) bool {
	data, ok := rest[valueKey].([]byte)
	if !ok || len(rest) != 1 {
		return e.failAt(typeKey, NoSuchValue, "is a type%s that is not known here: give %q as its bytes, or a proto.Message", e.echo(" ", url), valueKey)
	}
	if !e.charge(len(data)) {
		return false
	}
	setAny(url, data, into)
	return true
}

// pack fills an Any with a message. The message's size is already counted.
func (e *encoder) pack(message proto.Message, url string, into protoreflect.Message) bool {
	data, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(message)
	if err != nil {
		return e.fail(WrongType, "is a message %s that cannot be written: give one whose fields fit its .proto",
			quote.Clip(string(message.ProtoReflect().Descriptor().FullName()), maxTypeEcho))
	}
	setAny(url, data, into)
	return true
}

func setAny(url string, data []byte, into protoreflect.Message) {
	fields := into.Descriptor().Fields()
	into.Set(fields.ByNumber(typeURLField), protoreflect.ValueOfString(url))
	into.Set(fields.ByNumber(anyValueField), protoreflect.ValueOfBytes(append([]byte{}, data...)))
}
