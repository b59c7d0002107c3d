package encode

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/quote"
)

// maxProblems bounds the problems that one error shows.
const maxProblems = 20

// Kind is the kind of a problem.
type Kind string

// The kinds of problems. They are the reasons in google.rpc.BadRequest.
const (
	// Missing says that a required parameter is not set.
	Missing Kind = "MISSING"
	// Unknown says that no parameter has this name.
	Unknown Kind = "UNKNOWN"
	// WrongType says that the parameter does not accept the value's Go type.
	WrongType Kind = "WRONG_TYPE"
	// OutOfRange says that the field's type cannot hold the number or time.
	OutOfRange Kind = "OUT_OF_RANGE"
	// Inexact says that the field's type can hold the number only rounded.
	Inexact Kind = "INEXACT"
	// BadText says that a string is not valid UTF-8.
	BadText Kind = "BAD_TEXT"
	// NoSuchValue says that an enum does not have the name or number, or that a
	// message type is not known.
	NoSuchValue Kind = "NO_SUCH_VALUE"
	// Nil says that a parameter is nil.
	Nil Kind = "NIL"
	// Doubled says that two members of a oneof are set, or that a map has a key
	// twice.
	Doubled Kind = "DOUBLED"
	// TooDeep says that a value is inside more than [protoargs.MaxDepth] others.
	TooDeep Kind = "TOO_DEEP"
	// TooLarge says that the request is larger than the limit: see [Plan.Limit].
	TooLarge Kind = "TOO_LARGE"
	// ByPosition says that a call has values without names.
	ByPosition Kind = "BY_POSITION"
)

// Problem is one problem of the parameters of a call.
type Problem struct {
	// Path is the path of the field, such as items[2].price; empty if the problem is
	// the call as a whole.
	Path string
	// Text says briefly what is wrong and what to do.
	Text string
	// Kind is the kind of the problem.
	Kind Kind
}

// ArgumentError says that an RPC does not accept the parameters of a call. Its gRPC code is
// INVALID_ARGUMENT, with a google.rpc.BadRequest.
type ArgumentError struct {
	// RPC is the call's bus name, such as "auth.check_password".
	RPC string
	// Problems are the problems in the order of the .proto file, at most the first 20.
	Problems []Problem
	// More is a lower bound for the number of further problems.
	More int
	// Usage is an example of a correct call: see [Plan.Usage].
	Usage string
}

// Error implements error.
func (e *ArgumentError) Error() string {
	var out strings.Builder
	out.WriteString(quote.Clip(e.RPC, protoargs.MaxName))
	for i, problem := range e.Problems {
		if i == 0 {
			out.WriteString(": ")
		} else {
			out.WriteString("; ")
		}
		if problem.Path != "" {
			out.WriteString(problem.Path + " ")
		}
		out.WriteString(problem.Text)
	}
	if e.More > 0 {
		fmt.Fprintf(&out, "; and %d more", e.More)
	}
	if e.Usage == "" {
		return out.String()
	}
	if !strings.HasSuffix(out.String(), "?") {
		out.WriteByte('.')
	}
	return out.String() + " Write " + e.Usage
}

// GRPCStatus returns the status that status.Code and status.Convert read.
func (e *ArgumentError) GRPCStatus() *status.Status {
	bad := &errdetails.BadRequest{}
	for _, problem := range e.Problems {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field:       problem.Path,
			Description: problem.Text,
			Reason:      string(problem.Kind),
		})
	}
	plain := status.New(codes.InvalidArgument, e.Error())
	detailed, err := plain.WithDetails(bad)
	if err != nil {
		return plain
	}
	return detailed
}

// Positional returns the error for a call with values that have no names: an *ArgumentError
// with the number and Go types of the values, but never the values. usage is an example of a
// correct call.
func Positional(rpc, usage string, values []any) error {
	types := make([]string, 0, min(len(values), maxProblems)+1)
	for _, value := range values[:min(len(values), maxProblems)] {
		types = append(types, protoargs.TypeOf(value))
	}
	if len(values) > maxProblems {
		types = append(types, fmt.Sprintf("%d more", len(values)-maxProblems))
	}
	text := "parameters go by name only, and the call has none"
	switch len(values) {
	case 0:
	case 1:
		text = "parameters go by name only, and one value without a name was given: " + types[0]
	default:
		text = fmt.Sprintf("parameters go by name only, and %d values without names were given: %s", len(values), protoargs.Listed(types, "and"))
	}
	return &ArgumentError{
		RPC:      rpc,
		Problems: []Problem{{Text: text, Kind: ByPosition}},
		Usage:    usage,
	}
}
