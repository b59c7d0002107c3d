package encode

import (
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/internal/protoargs"
)

// DefaultLimit is the largest size of a request on the wire, in bytes, if [Plan.Limit] does
// not set another. It bounds the work for values that contain one another many times. A
// gRPC server accepts 4 MiB by default.
const DefaultLimit = 64 << 20

// Plan converts named arguments to requests of one RPC. It is immutable and safe for
// concurrent use.
type Plan struct {
	rpc     string
	types   protoargs.Resolver
	request protoreflect.MessageType
	limit   int
}

// NewPlan returns a plan for the RPC with the bus name rpc, whose request has the
// descriptor desc. types finds the Go types of messages; nil means those that are linked
// into the program. A request has the generated Go type if types has one for exactly this
// descriptor, else it is a *dynamicpb.Message.
func NewPlan(rpc string, desc protoreflect.MessageDescriptor, types protoargs.Resolver) *Plan {
	if types == nil {
		types = protoregistry.GlobalTypes
	}
	request, err := types.FindMessageByName(desc.FullName())
	if err != nil || request.Descriptor() != desc {
		request = dynamicpb.NewMessageType(desc)
	}
	return &Plan{rpc: rpc, types: types, request: request, limit: DefaultLimit}
}

// Limit returns a copy of the plan with another limit for the size of a request on the
// wire, in bytes.
func (p *Plan) Limit(bytes int) *Plan {
	if bytes == p.limit {
		return p
	}
	limited := *p
	limited.limit = bytes
	return &limited
}

// Encode converts args to a request. The names in args are those of the fields. Encode
// neither changes nor keeps args. Its errors are of type *ArgumentError and contain every
// problem, not only the first.
//
// Each value is converted exactly or refused:
//
//   - An integer of any Go type is converted to any integer field that can hold it, and to
//     a float or double that holds it exactly. The same is true for a json.Number, and for
//     a float without fraction below 2^53 (float32: 2^24), because JSON decodes all numbers
//     to floats. A time.Duration is not an integer: its unit would be lost.
//   - A float of either Go type is converted to a double. A float field receives the
//     nearest number, so that 0.1 is accepted. A finite number that would become infinite
//     is refused, and so is one that would become zero and is not. NaN and the infinities
//     are accepted.
//   - A string field requires a string of valid UTF-8, a bool field a bool, and a bytes
//     field a slice or array of bytes.
//   - An enum field accepts the exact name of a value, the number of a declared value, or a
//     value of its generated Go type.
//   - A message field accepts a map with string keys, a struct, a pointer to a struct, or a
//     message of the same full name, which is copied unchanged. The name of a struct field
//     is that in its json tag, else its Go name in snake_case. Nil struct fields, and those
//     that omitempty or omitzero omit, are not set.
//   - A repeated field accepts a slice or an array. A map field accepts a map whose keys
//     have the type of the field's keys: "7" is not accepted for 7.
//   - google.protobuf.Timestamp accepts a time.Time of the years 1 to 9999, and Duration a
//     time.Duration. Both also accept a map of their fields. Struct, Value and ListValue
//     accept values that JSON can represent, FieldMask a slice of strings, and a wrapper
//     the values of its value field. Any accepts a message, or a map with "@type" and the
//     message's fields. The map has "value" instead of the fields if the message has a Go
//     value of its own, or if the type is not known: then "value" is the message's bytes.
//
// Values of named types, such as type UserID int64, and pointers are accepted like the
// values themselves. Nil is refused, except for a Value, where it is null. A nil slice or
// map of a type is an empty one.
func (p *Plan) Encode(args map[string]any) (proto.Message, error) {
	e := encoder{plan: p}
	request := p.request.New()
	if !e.message(request, args) {
		return nil, p.explain(args, e.large)
	}
	if size := proto.Size(request.Interface()); size > p.limit {
		return nil, p.tooLarge()
	}
	return request.Interface(), nil
}

// explain encodes args again to find all problems. The first run stops at the first
// problem and formats no text. If the arguments are too large, that is the only problem.
func (p *Plan) explain(args map[string]any, large bool) error {
	e := encoder{plan: p, explain: true, large: large}
	if !large {
		e.message(p.request.New(), args)
	}
	if e.large {
		return p.tooLarge()
	}
	if len(e.problems) == 0 {
		// Another goroutine changed the arguments in the meantime.
		e.fail(WrongType, "was changed by another goroutine while it was read")
	}
	return &ArgumentError{RPC: p.rpc, Problems: e.problems, More: e.more, Usage: p.Usage()}
}

func (p *Plan) tooLarge() error {
	const unit = 1 << 20
	text := fmt.Sprintf("makes a request of more than %.4g MiB, the most that the bus sends: raise it with grpc.MaxCallSendMsgSize in DialOptions, "+
		"and what the service takes with grpc.MaxRecvMsgSize in ServerOptions, or send less", float64(p.limit)/unit)
	return &ArgumentError{RPC: p.rpc, Problems: []Problem{{Text: text, Kind: TooLarge}}}
}
