package client

import (
	"reflect"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/schema"
)

// usageError returns the error of a call with values that have no names. It does no
// I/O. The error shows the right call, so usageError first checks that the RPC exists.
func (b *Bus) usageError(api, name, rpc string, own *schema.Schema, values []any) error {
	known := own
	if known == nil {
		if err := contract.CheckName(api); err != nil {
			return callerr.Invalid(name, "%v", err)
		}
		known = b.schemaRead(api)
	}
	usage := encode.Usage(name, nil)
	if known != nil {
		method, err := methodFor(known.Service, api, name, rpc, false)
		if err != nil {
			return err
		}
		usage = encode.Usage(name, method.Input())
	}
	if len(values) == 1 && isParameters(values[0]) {
		late := encode.Problem{Text: "the parameters come before the options", Kind: encode.ByPosition}
		return misuseError(&encode.ArgumentError{RPC: name, Problems: []encode.Problem{late}, Usage: usage})
	}
	return misuseError(encode.Positional(name, usage, values))
}

// isParameters reports whether a value has a type for parameters, such as framework.Args.
func isParameters(value any) bool {
	given := reflect.TypeOf(value)
	return given != nil && given.ConvertibleTo(reflect.TypeFor[map[string]any]())
}

// schemaRead returns the schema that was read for an API before. It is nil if none was
// read or no instance has that schema any more.
func (b *Bus) schemaRead(name string) *schema.Schema {
	b.mu.Lock()
	of := b.apis[name]
	b.mu.Unlock()
	if of == nil {
		return nil
	}
	found, digest := of.schemas.InUse()
	if found == nil || !of.isCurrent(digest) {
		return nil
	}
	return found
}
