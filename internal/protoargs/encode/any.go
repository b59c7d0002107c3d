package encode

import (
	"maps"
	"reflect"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/protoargs"
)

// typePrefix is the prefix of the type URLs that this package creates.
const typePrefix = "type.googleapis.com/"

// anyField fills an Any from a map with "@type".
func (e *encoder) anyField(v any, into protoreflect.Message) bool {
	if reflect.ValueOf(v).Kind() != reflect.Map {
		return e.wrongType(into.Descriptor(), v)
	}
	given, ok := e.args(into.Descriptor(), v)
	if !ok {
		return false
	}
	url, ok := protoargs.Basic(given[protoargs.TypeKey]).(string)
	if ok && url == "" && holdsNothing(given) {
		return true
	}
	if !ok || url == "" {
		return e.failAt(protoargs.TypeKey, Missing, "is missing: it takes the message's type, such as %q", typePrefix+"auth.v1.User")
	}
	if !e.validText(url) {
		return false
	}
	rest := maps.Clone(given)
	delete(rest, protoargs.TypeKey)
	goType, err := e.plan.types.FindMessageByURL(url)
	if err != nil {
		return e.unknownType(url, rest, into)
	}
	packed := goType.New()
	if protoargs.SpecialOf(packed.Descriptor()) != protoargs.Ordinary {
		ok = e.onlyValue(rest, packed)
	} else {
		ok = e.message(packed, rest)
	}
	return ok && e.pack(packed.Interface(), url, into)
}

// holdsNothing reports whether a map is that of an empty Any.
func holdsNothing(given map[string]any) bool {
	data, ok := given[protoargs.ValueKey].([]byte)
	return len(given) == 2 && ok && len(data) == 0
}

// onlyValue fills a message that has a Go value of its own from the map's "value".
func (e *encoder) onlyValue(rest map[string]any, packed protoreflect.Message) bool {
	v, ok := rest[protoargs.ValueKey]
	if !ok || len(rest) != 1 {
		return e.fail(Missing, "takes %q and %q, and nothing else: the value is %s", protoargs.TypeKey, protoargs.ValueKey, wantsMessage(packed.Descriptor()))
	}
	if !e.enter() {
		return false
	}
	defer e.leave()
	e.push(fieldpath.Step{Field: protoargs.ValueKey})
	defer e.pop()
	return e.messageValue(packed, v)
}

// unknownType fills an Any whose type is not known.
func (e *encoder) unknownType(url string, rest map[string]any, into protoreflect.Message) bool {
	data, ok := rest[protoargs.ValueKey].([]byte)
	if !ok || len(rest) != 1 {
		return e.failAt(protoargs.TypeKey, NoSuchValue, "is a type%s that is not known here: give %q as its bytes, or a proto.Message", e.echo(" ", url), protoargs.ValueKey)
	}
	if !e.charge(len(data)) {
		return false
	}
	return e.copyMessage(&anypb.Any{TypeUrl: url, Value: data}, into)
}

// pack fills an Any with a message. The message's size is already counted.
func (e *encoder) pack(message proto.Message, url string, into protoreflect.Message) bool {
	data, err := proto.MarshalOptions{AllowPartial: true, Deterministic: true}.Marshal(message)
	if err != nil {
		return e.fail(WrongType, "is a message %s that cannot be written: give one whose fields fit its .proto",
			protoargs.FullName(message.ProtoReflect().Descriptor()))
	}
	return e.copyMessage(&anypb.Any{TypeUrl: url, Value: data}, into)
}
