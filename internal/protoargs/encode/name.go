package encode

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/quote"
)

// maxName bounds the bytes of an RPC's bus name.
const maxName = 256

// shape describes the form of an RPC's name.
const shape = "an RPC's name is its API's, a dot and the method in snake_case, such as auth.check_password"

// NameError says that no RPC can have a name. Its gRPC code is INVALID_ARGUMENT.
type NameError struct {
	// Name is the wrong name, quoted and cut to 60 bytes.
	Name string
	// Problem says what is wrong with the name and what to write instead.
	Problem string
}

// Error implements error.
func (e *NameError) Error() string { return e.Name + ": no RPC has such a name: " + e.Problem }

// GRPCStatus returns the status that status.Code reads.
func (e *NameError) GRPCStatus() *status.Status {
	return status.New(codes.InvalidArgument, e.Error())
}

// SplitName splits an RPC's bus name, such as "billing.invoices.list", into the API's name
// and the RPC's own name. It checks only the form of the name, and not whether the API and
// the RPC exist. Errors are of type *NameError.
func SplitName(name string) (api, rpc string, err error) {
	if problem := checkText(name); problem != "" {
		return "", "", &NameError{Name: quote.Quoted(name, protoargs.MaxName), Problem: problem}
	}
	dot := strings.LastIndexByte(name, '.')
	if problem := checkParts(name, dot); problem != "" {
		return "", "", &NameError{Name: quote.Quoted(name, protoargs.MaxName), Problem: problem}
	}
	return name[:dot], name[dot+1:], nil
}

// checkText returns the problem of a name that is not a dotted name at all.
func checkText(name string) string {
	switch {
	case name == "":
		return "the name is empty; " + shape
	case len(name) > maxName:
		return fmt.Sprintf("it has %d bytes, and a name has at most %d; %s", len(name), maxName, shape)
	case !utf8.ValidString(name):
		return "it is not valid UTF-8; " + shape
	case strings.Contains(name, "/"):
		return "a slash is for gRPC's path; write " + fromPath(name)
	}
	for i, char := range name {
		switch {
		case char == ' ' || char == '\t' || char == '\n' || char == '\r':
			return fmt.Sprintf("there is a blank at byte %d; %s", i, shape)
		case char == '-':
			return "a hyphen is part of no name; " + orElse(strings.ReplaceAll(name, "-", "_"))
		case !protoargs.IsWord(char) && char != '.':
			return fmt.Sprintf("%q is part of no name, only letters a to z, digits, underscores and dots are; %s", char, shape)
		}
	}
	return ""
}

// checkParts returns the problem of a name with an invalid word between dots, or with an
// RPC that is not in snake_case. dot is the index of the last dot, negative if there is none.
func checkParts(name string, dot int) string {
	if dot < 0 {
		return "it has no RPC, only one word; " + shape
	}
	for part := range strings.SplitSeq(name, ".") {
		switch {
		case part == "" && dot == 0:
			return "the API is missing before the dot; " + shape
		case part == "" && dot == len(name)-1:
			return "the RPC is missing after the dot; " + shape
		case part == "":
			return "there is nothing between two dots; " + shape
		case part[0] == '_':
			return "a word that begins with an underscore is private and cannot be called; " + shape
		case '0' <= part[0] && part[0] <= '9':
			return "a word begins with a letter, not with a digit; " + shape
		}
	}
	if rpc := name[dot+1:]; rpc != strings.ToLower(rpc) {
		return "an RPC is named in snake_case; " + orElse(name[:dot+1]+contract.SnakeCase(rpc))
	}
	return ""
}

// fromPath returns the bus name for gRPC's path "/service/method". If the path has another
// form, it returns an example of a name.
func fromPath(path string) string {
	service, method, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	name := service + "." + contract.SnakeCase(method)
	if _, _, err := SplitName(name); !ok || strings.Contains(name, "/") || err != nil {
		return "a name such as auth.check_password"
	}
	return name
}

// orElse suggests a name, or describes the form of names if that name is also invalid.
func orElse(name string) string {
	if _, _, err := SplitName(name); err != nil {
		return shape
	}
	return "write " + name
}
