package encode

import (
	"cmp"
	"encoding/json"
	"reflect"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	"github.com/onecall-dev/onecall/internal/protoargs"
)

// list fills a repeated field from a slice or an array.
func (e *encoder) list(field protoreflect.FieldDescriptor, into protoreflect.Message, v any) bool {
	v, ok := e.deref(v)
	if !ok {
		return false
	}
	at := reflect.ValueOf(v)
	if at.Kind() != reflect.Slice && at.Kind() != reflect.Array {
		return e.fail(WrongType, "takes %s, and %s was given", wants(field), protoargs.TypeOf(v))
	}
	out := into.Mutable(field).List()
	for i := range at.Len() {
		ok = e.element(field, out, i, at.Index(i).Interface()) && ok
		if !ok && e.halt() {
			return false
		}
	}
	return ok
}

func (e *encoder) element(field protoreflect.FieldDescriptor, out protoreflect.List, index int, v any) bool {
	if !e.charge(1) {
		return false
	}
	e.push(fieldpath.Step{Index: index})
	set, ok := e.value(field, v, out.NewElement())
	if ok {
		out.Append(set)
	}
	e.pop()
	return ok
}

// mapField fills a map field from a map.
func (e *encoder) mapField(field protoreflect.FieldDescriptor, into protoreflect.Message, v any) bool {
	v, ok := e.deref(v)
	if !ok {
		return false
	}
	at := reflect.ValueOf(v)
	if at.Kind() != reflect.Map {
		return e.fail(WrongType, "takes %s, and %s was given", wants(field), protoargs.TypeOf(v))
	}
	keys := at.MapKeys()
	if e.explain {
		slices.SortFunc(keys, compareKeys)
	}
	out := into.Mutable(field).Map()
	for _, key := range keys {
		ok = e.entry(field, out, key.Interface(), at.MapIndex(key)) && ok
		if !ok && e.halt() {
			return false
		}
	}
	return ok
}

func (e *encoder) entry(field protoreflect.FieldDescriptor, out protoreflect.Map, given any, v reflect.Value) bool {
	key, ok := e.key(field.MapKey(), given)
	if !ok {
		return false
	}
	if out.Has(key) {
		ok = e.fail(Doubled, "has a key%s twice", e.echo(" ", key.Interface()))
	}
	if !e.charge(2) {
		return false
	}
	e.push(fieldpath.Step{Key: key, Hidden: e.hidden > 0})
	set, good := e.value(field.MapValue(), v.Interface(), out.NewValue())
	if good {
		out.Set(key, set)
	}
	e.pop()
	return ok && good
}

// compareKeys orders the keys of a map: numbers as numbers, all others as text.
func compareKeys(a, b reflect.Value) int {
	switch {
	case a.CanInt() && b.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint() && b.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	default:
		return cmp.Compare(protoargs.ValueText(protoargs.Basic(a.Interface())), protoargs.ValueText(protoargs.Basic(b.Interface())))
	}
}

// key converts a map key exactly. It does not convert text to a number. It converts text
// to a bool, because JSON has no other keys.
func (e *encoder) key(field protoreflect.FieldDescriptor, given any) (protoreflect.MapKey, bool) {
	v, ok := e.deref(given)
	if !ok {
		return protoreflect.MapKey{}, false
	}
	basic := protoargs.Basic(v)
	switch text := basic.(type) {
	case float32, float64, json.Number:
		ok = false
	case string:
		if field.Kind() == protoreflect.BoolKind && (text == "true" || text == "false") {
			return protoreflect.ValueOfBool(text == "true").MapKey(), true
		}
		if field.Kind() != protoreflect.StringKind {
			ok = false
			break
		}
		e.push(fieldpath.Step{Key: protoreflect.ValueOfString(text).MapKey(), Hidden: e.hidden > 0})
		defer e.pop()
	}
	if !ok {
		return protoreflect.MapKey{}, e.fail(WrongType, "has keys of %s, and a key is %s%s", field.Kind(), protoargs.TypeOf(given), e.echo(" ", basic))
	}
	key, ok := e.value(field, v, field.Default())
	if !ok {
		return protoreflect.MapKey{}, false
	}
	return key.MapKey(), true
}
