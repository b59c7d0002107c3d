package framework

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/internal/protoargs/decode"
	"github.com/onecall-dev/onecall/internal/schema"
)

// Args are the parameters of a call by name. A parameter has the name of a field of
// the request in the .proto. A value is converted to the field's type exactly, or the
// call fails: see the table in docs/named-parameters.md.
type Args map[string]any

// Call makes a unary call by name, without generated code:
//
//	reply, err := bus.Call(ctx, "auth.check_password", framework.Args{"username": "adam", "password": "secr3t"})
//
// If the API's generated code is linked into the program and has the RPC, its schema
// is used. Otherwise the schema is one that an instance published in the registry.
// Options of the call, such as [Timeout], follow the parameters. Parameters have
// names only, and all parameters that are not optional are required.
//
// Errors are those of [Bus.Invoke], and:
//   - INVALID_ARGUMENT with google.rpc.BadRequest: the name is not valid, or
//     parameters are positional, unknown, missing or of a wrong type. The error names
//     all of them at once, and its text has the right call. Nothing was sent.
//   - UNIMPLEMENTED: the API does not have the RPC.
func (b *Bus) Call(ctx context.Context, name string, args ...any) (*Reply, error) {
	parameters, options, positional := sortArgs(args)
	message, types, err := b.calls.CallByName(ctx, name, parameters, options, positional)
	if err != nil {
		return nil, err
	}
	return &Reply{rpc: name, message: message, types: types}, nil
}

// sortArgs splits the arguments of a call into parameters and options. If they are not
// one set of parameters followed by options, positional are the other values.
func sortArgs(args []any) (parameters Args, options []grpc.CallOption, positional []any) {
	rest := args
	if len(rest) > 0 {
		switch first := rest[0].(type) {
		case Args:
			parameters, rest = first, rest[1:]
		case map[string]any:
			parameters, rest = first, rest[1:]
		}
	}
	for _, arg := range rest {
		option, ok := arg.(grpc.CallOption)
		if !ok {
			return nil, nil, notOptions(args)
		}
		options = append(options, option)
	}
	return parameters, options, nil
}

// notOptions returns the arguments of a call that are not options.
func notOptions(args []any) []any {
	return slices.DeleteFunc(slices.Clone(args), func(arg any) bool {
		_, ok := arg.(grpc.CallOption)
		return ok
	})
}

// Reply is the reply of a call by name. Its methods are safe for all goroutines.
type Reply struct {
	rpc     string
	message proto.Message
	types   schema.Types
}

// Message returns the reply's message. It has the generated type if that is linked
// into the program, otherwise it is dynamic. It must not be changed.
func (r *Reply) Message() proto.Message { return r.message }

// Map returns the reply as plain Go values, by the names of its fields: see the table
// in docs/named-parameters.md.
func (r *Reply) Map() map[string]any { return decode.Map(r.message, r.types) }

// Into stores the reply in dest. dest is a message of the reply's type, or a pointer to
// one of these:
//   - a map[string]any
//   - a struct: its fields have the names of their json tags, otherwise their names in
//     snake_case
//   - if the reply has only one field, a value of a type for that field
//
// If a value does not fit exactly, Into returns an error that names the field.
func (r *Reply) Into(dest any) error {
	if err := decode.Into(r.message, r.types, dest); err != nil {
		return fmt.Errorf("%s: %w", r.rpc, err)
	}
	return nil
}
