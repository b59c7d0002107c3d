package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/onecall-dev/onecall/framework"
)

// parameter is a parameter on the command line.
type parameter struct {
	name string
	// text is the value as text, unless json is set.
	text string
	json any
	// isJSON says that the value is JSON.
	isJSON bool
}

// errPositional says that an argument has no name.
var errPositional = errors.New("parameters go by name only")

// readParameters reads the parameters of a call: name=text, name:=json, name=@file,
// name:=@file. input reports whether there is a "-", for parameters on standard input.
func readParameters(args []string) (all []parameter, input bool, err error) {
	for _, arg := range args {
		if arg == "-" {
			input = true
			continue
		}
		one, err := readParameter(arg)
		if err != nil {
			return nil, input, err
		}
		all = append(all, one)
	}
	all, err = distinct(all)
	return all, input, err
}

// distinct returns parameters, or an error if two have the same name.
func distinct(all []parameter) ([]parameter, error) {
	seen := make(map[string]bool)
	for _, each := range all {
		if seen[each.name] {
			return nil, fmt.Errorf("%s is given twice: give it once; a list is JSON, such as %s:='[1, 2]'", each.name, each.name)
		}
		seen[each.name] = true
	}
	return all, nil
}

func readParameter(arg string) (parameter, error) {
	name, text, named := strings.Cut(arg, "=")
	if !named || name == "" || name == ":" {
		return parameter{}, fmt.Errorf("%q has no name: %w", arg, errPositional)
	}
	name, isJSON := strings.CutSuffix(name, ":")
	if file, ok := strings.CutPrefix(text, "@"); ok {
		content, err := os.ReadFile(file) //nolint:gosec // who runs the command names the file
		if err != nil {
			return parameter{}, fmt.Errorf("%s: %w", name, err)
		}
		text = string(content)
	}
	if !isJSON {
		return parameter{name: name, text: text}, nil
	}
	value, err := readJSON(strings.NewReader(text))
	if err != nil {
		return parameter{}, fmt.Errorf("%s: the value is not JSON: %w", name, err)
	}
	return parameter{name: name, json: value, isJSON: true}, nil
}

// readObject reads parameters from a JSON object on standard input.
func readObject(in io.Reader) ([]parameter, error) {
	value, err := readJSON(in)
	if err != nil {
		return nil, fmt.Errorf("standard input is not JSON: %w", err)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("standard input is not a JSON object with the parameters by name")
	}
	var all []parameter
	for name, value := range object {
		all = append(all, parameter{name: name, json: value, isJSON: true})
	}
	return all, nil
}

// readJSON reads one JSON value, and nothing may follow it.
func readJSON(from io.Reader) (any, error) {
	decoder := json.NewDecoder(from)
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows the value")
	}
	return value, nil
}

// types are the fields of messages, by the names of their types.
type types map[string][]framework.FieldDescription

// newTypes returns the types of fields and of all fields below them. A description has the
// fields of a type only where the type occurs first.
func newTypes(fields []framework.FieldDescription) types {
	t := make(types)
	t.add(fields)
	return t
}

func (t types) add(fields []framework.FieldDescription) {
	for _, field := range fields {
		if len(field.Fields) > 0 {
			t[parseKind(field.Type).value] = field.Fields
			t.add(field.Fields)
		}
	}
}

// kind is the type of a field.
type kind struct {
	repeated bool
	// key is the type of the keys of a map, "" for other fields.
	key string
	// value is the type without "optional", "repeated" and the map around it.
	value string
}

// parseKind reads the type of a field in a description.
func parseKind(text string) kind {
	if inner, ok := strings.CutPrefix(text, "map<"); ok {
		key, value, _ := strings.Cut(strings.TrimSuffix(inner, ">"), ", ")
		return kind{key: key, value: value}
	}
	value, repeated := strings.CutPrefix(strings.TrimPrefix(text, "optional "), "repeated ")
	return kind{repeated: repeated, value: value}
}

// Types whose values have a form of their own on the command line.
const (
	timestampType = "google.protobuf.Timestamp"
	durationType  = "google.protobuf.Duration"
	maskType      = "google.protobuf.FieldMask"
)

var numeric = map[string]bool{
	"int32": true, "int64": true, "uint32": true, "uint64": true, "sint32": true, "sint64": true, "fixed32": true, "fixed64": true,
	"sfixed32": true, "sfixed64": true, "float": true, "double": true,
	"google.protobuf.Int32Value": true, "google.protobuf.Int64Value": true, "google.protobuf.UInt32Value": true,
	"google.protobuf.UInt64Value": true, "google.protobuf.FloatValue": true, "google.protobuf.DoubleValue": true,
}

// arguments converts the parameters of a call to the Go values that a bus takes. A value
// that has another type than its field stays as it is, and so does one without a field: the
// error of the bus says what is wrong.
func (t types) arguments(rpc *framework.RPCDescription, given []parameter) (framework.Args, error) {
	fields := make(map[string]framework.FieldDescription)
	for _, field := range rpc.Parameters {
		fields[field.Name] = field
	}
	args := make(framework.Args)
	for _, each := range given {
		field, known := fields[each.name]
		switch {
		case !known && each.isJSON:
			args[each.name] = each.json
		case !known:
			args[each.name] = each.text
		case each.isJSON:
			args[each.name] = t.fromJSON(parseKind(field.Type), each.json)
		default:
			value, ok := fromText(field, each.text)
			if !ok {
				return nil, fmt.Errorf("%s: %s takes a %s: give JSON, as %s:='…'", rpc.Name, each.name, field.Type, each.name)
			}
			args[each.name] = value
		}
	}
	return args, nil
}

// fromText converts text to a value of a field. It reports false if the field takes JSON
// only.
func fromText(field framework.FieldDescription, text string) (any, bool) {
	k := parseKind(field.Type)
	if k.repeated || k.key != "" || len(field.Fields) > 0 {
		return nil, false
	}
	switch {
	case numeric[k.value] || len(field.Values) > 0:
		return numberOf(text), true
	case k.value == "bool" || k.value == "google.protobuf.BoolValue":
		return boolOf(text), true
	case k.value == "bytes" || k.value == "google.protobuf.BytesValue":
		return []byte(text), true
	case k.value == maskType:
		return strings.Split(text, ","), true
	case k.value == timestampType || k.value == durationType:
		return timeOf(k.value, text), true
	}
	return text, !strings.Contains(k.value, ".") || k.value == "google.protobuf.StringValue"
}

// numberOf returns the number that a text is, or the text.
func numberOf(text string) any {
	if _, err := strconv.ParseFloat(text, 64); err == nil && json.Valid([]byte(text)) {
		return json.Number(text)
	}
	return text
}

// boolOf returns the bool that a text is, or the text.
func boolOf(text string) any {
	if text == "true" || text == "false" {
		return text == "true"
	}
	return text
}

// timeOf returns the time or the duration that a text is, or the text.
func timeOf(value, text string) any {
	if value == timestampType {
		if read, err := time.Parse(time.RFC3339Nano, text); err == nil {
			return read
		}
	} else if read, err := time.ParseDuration(text); err == nil {
		return read
	}
	return text
}

// fromJSON converts JSON to a value of a type.
func (t types) fromJSON(k kind, value any) any {
	switch read := value.(type) {
	case []any:
		if !k.repeated {
			return value
		}
		out := make([]any, len(read))
		for i := range read {
			out[i] = t.fromJSON(kind{value: k.value}, read[i])
		}
		return out
	case map[string]any:
		if k.key != "" {
			return t.mapFromJSON(k, read)
		}
		return t.messageFromJSON(k.value, read)
	case string:
		switch k.value {
		case timestampType, durationType:
			return timeOf(k.value, read)
		case "bytes", "google.protobuf.BytesValue":
			if decoded, err := base64.StdEncoding.DecodeString(read); err == nil {
				return decoded
			}
		}
	}
	return value
}

// messageFromJSON converts the fields of a message whose type is known.
func (t types) messageFromJSON(message string, read map[string]any) any {
	out := make(map[string]any, len(read))
	for name, value := range read {
		out[name] = value
		for _, field := range t[message] {
			if field.Name == name {
				out[name] = t.fromJSON(parseKind(field.Type), value)
			}
		}
	}
	return out
}

// mapFromJSON converts a map. Its keys are numbers where the field's are.
func (t types) mapFromJSON(k kind, read map[string]any) any {
	texts, signed, unsigned := make(map[string]any), make(map[int64]any), make(map[uint64]any)
	for key, value := range read {
		converted := t.fromJSON(kind{value: k.value}, value)
		texts[key] = converted
		if number, err := strconv.ParseInt(key, 10, 64); err == nil {
			signed[number] = converted
		}
		if number, err := strconv.ParseUint(key, 10, 64); err == nil {
			unsigned[number] = converted
		}
	}
	switch {
	case !numeric[k.key]:
		return texts
	case len(signed) == len(read):
		return signed
	case len(unsigned) == len(read):
		return unsigned
	default:
		return texts
	}
}
