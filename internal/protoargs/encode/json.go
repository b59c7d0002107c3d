package encode

import (
	"errors"
	"reflect"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/protoargs"
)

// jsonParts fills a Struct from a map with string keys, or a ListValue from a list. Each has
// one field.
func (e *encoder) jsonParts(v any, into protoreflect.Message) bool {
	field := into.Descriptor().Fields().Get(0)
	if at := reflect.ValueOf(v); field.IsMap() && !isObject(at) || field.IsList() && !isJSONList(at) {
		return e.wrongType(into.Descriptor(), v)
	}
	if !e.enter() {
		return false
	}
	defer e.leave()
	return e.set(field, into, v)
}

func isJSONList(at reflect.Value) bool {
	return (at.Kind() == reflect.Slice || at.Kind() == reflect.Array) && at.Type().Elem().Kind() != reflect.Uint8
}

// jsonValue fills a Value from anything that JSON can represent.
func (e *encoder) jsonValue(v any, into protoreflect.Message) bool {
	var member protoreflect.Name
	basic, at := protoargs.Basic(v), reflect.ValueOf(v)
	switch basic.(type) {
	case nil:
		v, member = 0, "null_value"
	case bool:
		member = "bool_value"
	case string:
		member = "string_value"
	default:
		switch _, err := protoargs.Number(basic, reflect.TypeFor[float64]()); {
		case isObject(at):
			member = "struct_value"
		case isJSONList(at):
			member = "list_value"
		case !errors.Is(err, protoargs.ErrType):
			member = "number_value"
		default:
			return e.wrongType(into.Descriptor(), v)
		}
	}
	return e.set(into.Descriptor().Fields().ByName(member), into, v)
}
