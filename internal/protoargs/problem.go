package protoargs

import (
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/internal/quote"
)

// maxProblems bounds the problems that one error has in full.
const maxProblems = 20

// Kind sorts problems.
type Kind string

// The kinds of problems, which are the reasons in google.rpc.BadRequest.
const (
	// Missing is a parameter that must be given and is not.
	Missing Kind = "MISSING"
	// Unknown is a name that no parameter has.
	Unknown Kind = "UNKNOWN"
	// WrongType is a value of a Go type that the parameter does not take.
	WrongType Kind = "WRONG_TYPE"
	// OutOfRange is a number or time that the field's type does not hold.
	OutOfRange Kind = "OUT_OF_RANGE"
	// Inexact is a number that the field's type holds only rounded.
	Inexact Kind = "INEXACT"
	// BadText is a string that is not valid UTF-8.
	BadText Kind = "BAD_TEXT"
	// NoSuchValue is a name or number that an enum does not have, or a message
	// type that is not known.
	NoSuchValue Kind = "NO_SUCH_VALUE"
	// Nil is a parameter that is given as nil.
	Nil Kind = "NIL"
	// Doubled is a oneof of which two members are given, or a map's key that is
	// there twice.
	Doubled Kind = "DOUBLED"
	// TooDeep is a value within more than [MaxDepth] others.
	TooDeep Kind = "TOO_DEEP"
	// TooLarge is a request of more than the limit: see [Plan.Limit].
	TooLarge Kind = "TOO_LARGE"
	// ByPosition is a call with values that have no names.
	ByPosition Kind = "BY_POSITION"
)

// Problem is one thing that is wrong with the parameters of a call.
type Problem struct {
	// Path leads to the field, such as items[2].price; empty when it is the
	// call as a whole.
	Path string
	// Text says what is wrong and what to do, in a few words.
	Text string
	// Kind sorts it.
	Kind Kind
}

// ArgumentError is a call whose parameters are not what the RPC takes. Its gRPC
// code is INVALID_ARGUMENT, with a google.rpc.BadRequest.
type ArgumentError struct {
	// RPC is the call's bus name, such as "auth.check_password".
	RPC string
	// Problems are what is wrong, in the order of the .proto; the first 20.
	Problems []Problem
	// More is how many others there are, at least.
	More int
	// Usage is the call as it should be: see [Plan.Usage].
	Usage string
}

// Error implements error.
func (e *ArgumentError) Error() string {
	var out strings.Builder
	out.WriteString(quote.Clip(e.RPC, maxNameEcho))
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

// Positional returns the error of a call with values that have no names: an
// *ArgumentError with their number and Go types, never the values, and
// usage, the call as it should be.
func Positional(rpc, usage string, values []any) error {
	types := make([]string, 0, min(len(values), maxProblems)+1)
	for _, value := range values[:min(len(values), maxProblems)] {
		types = append(types, goType(value))
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
		text = fmt.Sprintf("parameters go by name only, and %d values without names were given: %s", len(values), listed(types, "and"))
	}
	return &ArgumentError{
		RPC:      rpc,
		Problems: []Problem{{Text: text, Kind: ByPosition}},
		Usage:    usage,
	}
}
