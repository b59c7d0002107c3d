package protoargs

import (
	"maps"
	"reflect"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/onecall-dev/onecall/internal/fieldpath"
)

// jsonNumberType is the type of the numbers in a Value.
var jsonNumberType = &valueType{kind: protoreflect.DoubleKind}

// json fills a Struct, Value or ListValue.
func (e *encoder) json(t *valueType, v any, into protoreflect.Message) bool {
	value, ok := e.jsonValue(t, v)
	if !ok {
		return false
	}
	var made proto.Message = value
	switch t.message.special {
	case object:
		if value.GetStructValue() == nil {
			return e.wrongType(t, v)
		}
		made = value.GetStructValue()
	case jsonList:
		if value.GetListValue() == nil {
			return e.wrongType(t, v)
		}
		made = value.GetListValue()
	default:
	}
	return e.copyMessage(made, into)
}

// jsonValue converts a value that JSON can represent to a Value.
func (e *encoder) jsonValue(t *valueType, v any) (*structpb.Value, bool) {
	if v == nil {
		return structpb.NewNullValue(), true
	}
	v, ok := e.deref(t, v)
	if !ok {
		return nil, false
	}
	switch read := basic(v).(type) {
	case bool:
		return structpb.NewBoolValue(read), true
	case string:
		return structpb.NewStringValue(read), e.validText(read)
	}
	at := reflect.ValueOf(v)
	switch kind := at.Kind(); {
	case kind == reflect.Map && at.Type().Key().Kind() == reflect.String:
		return e.jsonObject(t, v, at)
	case (kind == reflect.Slice || kind == reflect.Array) && at.Type().Elem().Kind() != reflect.Uint8:
		return e.jsonList(at)
	}
	if _, problem := floatOf(basic(v), 64); problem == WrongType {
		return nil, e.fail(WrongType, "takes what JSON can say: nil, a bool, number, string, []any or map[string]any, and %s was given", goType(v))
	}
	number, ok := e.float(jsonNumberType, v)
	if !ok {
		return nil, false
	}
	return structpb.NewNumberValue(number.Float()), true
}

func (e *encoder) jsonObject(t *valueType, v any, at reflect.Value) (*structpb.Value, bool) {
	args, ok := e.args(t, v)
	if !ok || !e.enter() {
		return nil, false
	}
	defer e.leave()
	out := &structpb.Struct{Fields: make(map[string]*structpb.Value, at.Len())}
	add := func(name string, v any) bool {
		e.push(fieldpath.Step{Key: protoreflect.ValueOfString(name).MapKey(), Hidden: e.hidden > 0})
		defer e.pop()
		if !e.charge(2) || !e.validText(name) {
			return false
		}
		value, ok := e.jsonValue(jsonElement, v)
		out.Fields[name] = value
		return ok
	}
	if !e.explain {
		for name, v := range args {
			if !add(name, v) {
				return nil, false
			}
		}
		return structpb.NewStructValue(out), true
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		ok = add(name, args[name]) && ok
		if !ok && e.halt() {
			break
		}
	}
	return structpb.NewStructValue(out), ok
}

// jsonElement is the type of the elements of a JSON object or list.
var jsonElement = &valueType{kind: protoreflect.MessageKind, message: &message{special: jsonValue, desc: wellKnown["google.protobuf.Value"].desc}}

func (e *encoder) jsonList(at reflect.Value) (*structpb.Value, bool) {
	if !e.enter() {
		return nil, false
	}
	defer e.leave()
	if !e.charge(at.Len()) {
		return nil, false
	}
	out := &structpb.ListValue{Values: make([]*structpb.Value, 0, at.Len())}
	ok := true
	for i := range at.Len() {
		e.push(fieldpath.Step{Index: i})
		value, good := e.jsonValue(jsonElement, at.Index(i).Interface())
		e.pop()
		ok = ok && good
		if !good && e.halt() {
			return nil, false
		}
		out.Values = append(out.Values, value)
	}
	return structpb.NewListValue(out), ok
}
