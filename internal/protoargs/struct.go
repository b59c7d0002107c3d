package protoargs

import (
	"reflect"
	"strings"
	"sync"

	"github.com/onecall-dev/onecall/internal/contract"
)

// StructField is a field of a Go struct that corresponds to a field of a message.
type StructField struct {
	Name  string
	Index []int
	// OmitZero and OmitEmpty are true if the json tag has omitzero and omitempty.
	OmitZero, OmitEmpty bool
}

// knownStructs caches the fields of each struct type. A program has only a limited number
// of them.
var knownStructs sync.Map // reflect.Type to []StructField

// FieldsOf returns the fields of a struct. The name of a field is that in its json tag,
// else its Go name in snake_case. The fields of embedded structs are fields of the struct
// itself, as in encoding/json. If two fields have the same name, the outer one is used, and
// at the same depth the first.
func FieldsOf(t reflect.Type) []StructField {
	if known, ok := knownStructs.Load(t); ok {
		if fields, ok := known.([]StructField); ok {
			return fields
		}
	}
	var out []StructField
	taken := make(map[string]bool)
	seen := map[reflect.Type]bool{t: true}
	for queue := []embedded{{t, nil}}; len(queue) > 0; queue = queue[1:] {
		own, deeper := queue[0].fields(seen)
		queue = append(queue, deeper...)
		for _, f := range own {
			if !taken[f.Name] {
				taken[f.Name] = true
				out = append(out, f)
			}
		}
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
func (at embedded) fields(seen map[reflect.Type]bool) (own []StructField, deeper []embedded) {
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
		own = append(own, StructField{
			Name:      tag,
			Index:     index,
			OmitZero:  strings.Contains(options, ",omitzero,"),
			OmitEmpty: strings.Contains(options, ",omitempty,"),
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
	ok := f.Anonymous && tag == "" && inner.Kind() == reflect.Struct && inner != TimeType && !reflect.PointerTo(inner).Implements(MessageType)
	return inner, ok
}
