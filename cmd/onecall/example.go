package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/onecall-dev/onecall/framework"
)

// exampleCall returns a command line that calls an RPC with its required parameters. The
// text of strings is to be filled in.
func exampleCall(rpc framework.RPCDescription) string {
	types := newTypes(rpc.Parameters)
	if rpc.ClientStream {
		request := make(map[string]any)
		for _, field := range rpc.Parameters {
			if field.Required {
				request[field.Name] = types.example(field)
			}
		}
		return "echo '" + asJSON(request) + "' | onecall call " + rpc.Name + " -"
	}
	call := []string{"onecall call", rpc.Name}
	for _, field := range rpc.Parameters {
		if !field.Required {
			continue
		}
		switch value := types.example(field).(type) {
		case string:
			call = append(call, field.Name+"="+value)
		case json.Number, bool:
			call = append(call, field.Name+"="+fmt.Sprint(value))
		default:
			call = append(call, field.Name+":='"+asJSON(value)+"'")
		}
	}
	return strings.Join(call, " ")
}

// asJSON returns JSON of maps, texts and numbers.
func asJSON(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(text)
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
