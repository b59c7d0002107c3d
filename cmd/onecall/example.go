package main

import (
	"encoding/json"
	"strings"

	"github.com/onecall-dev/onecall/framework"
)

// exampleCall returns a command line that calls an RPC with its required parameters. The
// text of strings is to be filled in. It returns "" for a stream, which has no such call.
func exampleCall(rpc framework.RPCDescription) string {
	if rpc.ClientStream || rpc.ServerStream {
		return ""
	}
	types := newTypes(rpc.Parameters)
	call := []string{"onecall call", rpc.Name}
	for _, field := range rpc.Parameters {
		if !field.Required {
			continue
		}
		switch value := types.example(field).(type) {
		case string:
			call = append(call, field.Name+"="+value)
		default:
			text, err := json.Marshal(value)
			if err != nil { // it consists of maps, texts and numbers
				panic(err)
			}
			call = append(call, field.Name+":='"+string(text)+"'")
		}
	}
	return strings.Join(call, " ")
}

// example returns an example of a field's value, as JSON. A message that contains itself is
// never required, so this ends.
func (t types) example(field framework.FieldDescription) any {
	kind := parseKind(field.Type)
	switch {
	case kind.repeated:
		return []any{}
	case kind.key != "":
		return map[string]any{}
	case len(field.Values) > 0:
		return field.Values[len(field.Values)-1]
	case numeric[kind.value]:
		return json.Number("1")
	}
	switch kind.value {
	case "bool":
		return true
	case timestampType:
		return "2026-01-02T15:04:05Z"
	case durationType:
		return "1s"
	case "string", "bytes":
		return "…"
	}
	message := make(map[string]any)
	for _, inner := range t[kind.value] {
		if inner.Required {
			message[inner.Name] = t.example(inner)
		}
	}
	return message
}
