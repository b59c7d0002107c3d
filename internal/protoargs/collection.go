package protoargs

import (
	"cmp"
	"encoding/json"
	"reflect"
	"slices"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/internal/fieldpath"
)

// list fills a repeated field from a slice or an array.
func (e *encoder) list(f *field, into protoreflect.Message, v any) bool {
	v, ok := e.deref(&valueType{}, v)
	if !ok {
		return false
	}
	out := into.Mutable(f.desc).List()
	switch v := v.(type) {
	case []any:
		return eachOf(e, f, out, v)
	case []string:
		return eachOf(e, f, out, v)
	}
	at := reflect.ValueOf(v)
	if at.Kind() != reflect.Slice && at.Kind() != reflect.Array {
		return e.fail(WrongType, "takes %s, and %s was given", f.wants(), goType(v))
	}
	ok = true
	for i := range at.Len() {
		ok = e.element(f, out, i, at.Index(i).Interface()) && ok
		if !ok && e.halt() {
			return false
		}
	}
	return ok
}

// eachOf does the same as the end of list, for a slice type that is known.
func eachOf[T any](e *encoder, f *field, out protoreflect.List, elements []T) bool {
	ok := true
	for i, element := range elements {
		ok = e.element(f, out, i, element) && ok
		if !ok && e.halt() {
			return false
		}
	}
	return ok
}

func (e *encoder) element(f *field, out protoreflect.List, index int, v any) bool {
	var slot protoreflect.Value
	if f.value.message != nil {
		slot = out.NewElement()
	} else if !e.charge(1) {
		return false
	}
	e.push(fieldpath.Step{Index: index})
	set, ok := e.value(f.value, v, slot)
	if ok {
		out.Append(set)
	}
	e.pop()
	return ok
}

// entry is one entry of a map.
type entry struct {
	key   protoreflect.MapKey
	value any
}

// mapField fills a map field from a map.
func (e *encoder) mapField(f *field, into protoreflect.Message, v any) bool {
	v, ok := e.deref(&valueType{}, v)
	if !ok {
		return false
	}
	at := reflect.ValueOf(v)
	if at.Kind() != reflect.Map {
		return e.fail(WrongType, "takes %s, and %s was given", f.wants(), goType(v))
	}
	entries, ok := e.entries(f, at)
	if !ok && e.halt() {
		return false
	}
	out := into.Mutable(f.desc).Map()
	for _, each := range entries {
		if out.Has(each.key) {
			ok = e.fail(Doubled, "has a key%s twice", e.echo(" ", each.key.Interface()))
		}
		ok = e.entry(f, out, each) && ok
		if !ok && e.halt() {
			return false
		}
	}
	return ok
}

func (e *encoder) entry(f *field, out protoreflect.Map, each entry) bool {
	if !e.charge(2) {
		return false
	}
	e.push(fieldpath.Step{Key: each.key, Hidden: e.hidden > 0})
	var slot protoreflect.Value
	if f.value.message != nil {
		slot = out.NewValue()
	}
	set, ok := e.value(f.value, each.value, slot)
	if ok {
		out.Set(each.key, set)
	}
	e.pop()
	return ok
}

// entries reads a map. If errors are wanted, it sorts the entries by key.
func (e *encoder) entries(f *field, at reflect.Value) ([]entry, bool) {
	keys := at.MapKeys()
	if e.explain {
		slices.SortFunc(keys, compareKeys)
	}
	ok := true
	out := make([]entry, 0, len(keys))
	for _, given := range keys {
		key, good := e.key(f, given.Interface())
		if good {
			out = append(out, entry{key, at.MapIndex(given).Interface()})
			continue
		}
		if ok = false; e.halt() {
			return nil, false
		}
	}
	return out, ok
}

// compareKeys orders the keys of a map: numbers as numbers, all others as text.
func compareKeys(a, b reflect.Value) int {
	switch {
	case a.CanInt() && b.CanInt():
		return cmp.Compare(a.Int(), b.Int())
	case a.CanUint() && b.CanUint():
		return cmp.Compare(a.Uint(), b.Uint())
	default:
		return cmp.Compare(keyOrder(a.Interface()), keyOrder(b.Interface()))
	}
}

func keyOrder(v any) string {
	if v == nil {
		return ""
	}
	return valueText(basic(v))
}

// key converts a map key exactly. It does not convert text to a number. It converts text
// to a bool, because JSON has no other keys.
func (e *encoder) key(f *field, v any) (protoreflect.MapKey, bool) {
	given := v
	v, ok := e.deref(f.key, v)
	if !ok {
		return protoreflect.MapKey{}, false
	}
	switch text := basic(v).(type) {
	case float32, float64, json.Number:
		ok = false
	case string:
		if f.key.kind == protoreflect.BoolKind && (text == "true" || text == "false") {
			return protoreflect.ValueOfBool(text == "true").MapKey(), true
		}
		ok = f.key.kind == protoreflect.StringKind
	}
	if !ok {
		return protoreflect.MapKey{}, e.fail(WrongType, "has keys of %s, and a key is %s%s", f.key.text(), goType(given), e.echo(" ", basic(v)))
	}
	key, ok := e.value(f.key, v, protoreflect.Value{})
	if !ok {
		return protoreflect.MapKey{}, false
	}
	return key.MapKey(), true
}
