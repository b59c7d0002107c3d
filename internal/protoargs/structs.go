package protoargs

import (
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/internal/contract"
)

// structField is a field of a Go struct that corresponds to a field of a message.
type structField struct {
	name  string
	index []int
	// zero and empty are true if the json tag has omitzero and omitempty.
	zero, empty bool
}

// knownStructs caches the fields of each struct type. A program has only a limited number
// of them.
var knownStructs sync.Map // reflect.Type to []structField

// fieldsOf returns the fields of a struct. The name of a field is that in its json tag,
// else its Go name in snake_case. The fields of embedded structs are fields of the struct
// itself, as in encoding/json. If two fields have the same name, the outer one is used, and
// at the same depth the first.
func fieldsOf(t reflect.Type) []structField {
	if known, ok := knownStructs.Load(t); ok {
		if fields, ok := known.([]structField); ok {
			return fields
		}
	}
	var out []structField
	taken := make(map[string]bool)
	level := []embedded{{t, nil}}
	seen := map[reflect.Type]bool{t: true}
	for len(level) > 0 {
		var next []embedded
		for _, at := range level {
			fields, deeper := at.fields(seen)
			next = append(next, deeper...)
			for _, f := range fields {
				if !taken[f.name] {
					taken[f.name] = true
					out = append(out, f)
				}
			}
		}
		level = next
	}
	knownStructs.Store(t, out)
	return out
}

// embedded is an embedded struct and its index in the outermost struct.
type embedded struct {
	goType reflect.Type
	index  []int
}

// fields returns a struct's own fields, and the structs that it embeds.
func (at embedded) fields(seen map[reflect.Type]bool) (own []structField, deeper []embedded) {
	for i := range at.goType.NumField() {
		f := at.goType.Field(i)
		index := append(append([]int{}, at.index...), i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == "-" && options == "" {
			continue
		}
		if inner, ok := flattened(f, tag); ok {
			if !seen[inner] {
				seen[inner] = true
				deeper = append(deeper, embedded{inner, index})
			}
			continue
		}
		if !f.IsExported() {
			continue
		}
		if tag == "" {
			tag = contract.SnakeCase(f.Name)
		}
		options = "," + options + ","
		own = append(own, structField{
			name:  tag,
			index: index,
			zero:  strings.Contains(options, ",omitzero,"),
			empty: strings.Contains(options, ",omitempty,"),
		})
	}
	return own, deeper
}

// flattened returns the embedded struct, and whether its fields are those of the outer struct.
func flattened(f reflect.StructField, tag string) (reflect.Type, bool) {
	inner := f.Type
	if inner.Kind() == reflect.Pointer {
		inner = inner.Elem()
	}
	ok := f.Anonymous && tag == "" && inner.Kind() == reflect.Struct && inner != timeType && !reflect.PointerTo(inner).Implements(messageType)
	return inner, ok
}

// structArgs returns the values of a struct's fields by name. It omits nil values, and
// those that the json tag omits. It keeps a nil slice or map for a required field, where
// it is an empty value.
func structArgs(m *message, at reflect.Value) map[string]any {
	fields := fieldsOf(at.Type())
	args := make(map[string]any, len(fields))
	for _, f := range fields {
		v, err := at.FieldByIndexErr(f.index)
		if err != nil || !v.CanInterface() || f.zero && v.IsZero() || f.empty && isEmpty(v) {
			continue
		}
		switch known := m.byName[f.name]; v.Kind() {
		case reflect.Pointer, reflect.Interface:
			if v.IsNil() {
				continue
			}
		case reflect.Slice, reflect.Map:
			if v.IsNil() && (known == nil || !known.required) {
				continue
			}
		default:
		}
		args[f.name] = v.Interface()
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

var timeType = reflect.TypeFor[time.Time]()
