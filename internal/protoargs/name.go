package protoargs

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/quote"
)

// maxName bounds the bytes of an RPC's bus name.
const maxName = 256

// shape says what the name of an RPC looks like.
const shape = "an RPC's name is its API's, a dot and the method in snake_case, such as auth.check_password"

// NameError is a bus name that no RPC can have. Its gRPC code is
// INVALID_ARGUMENT.
type NameError struct {
	// Name is what was given, quoted and cut to 60 bytes.
	Name string
	// Problem says what is wrong with it and what to write instead.
	Problem string
}

// Error implements error.
func (e *NameError) Error() string { return e.Name + ": no RPC has such a name: " + e.Problem }

// GRPCStatus returns the status that status.Code reads.
func (e *NameError) GRPCStatus() *status.Status {
	return status.New(codes.InvalidArgument, e.Error())
}

// SplitName parts an RPC's bus name, such as "billing.invoices.list", into the
// API's name and the RPC's own. It looks at the form alone: whether there is
// such an API and RPC is for the caller to find out. Its errors are *NameError.
func SplitName(name string) (api, rpc string, err error) {
	if problem := checkText(name); problem != "" {
		return "", "", &NameError{Name: quote.Quoted(name, maxNameEcho), Problem: problem}
	}
	dot := strings.LastIndexByte(name, '.')
	if problem := checkParts(name, dot); problem != "" {
		return "", "", &NameError{Name: quote.Quoted(name, maxNameEcho), Problem: problem}
	}
	return name[:dot], name[dot+1:], nil
}

// checkText refuses what is no dotted name at all.
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
		case !isWord(char) && char != '.':
			return fmt.Sprintf("%q is part of no name, only letters a to z, digits, underscores and dots are; %s", char, shape)
		}
	}
	return ""
}

// checkParts refuses words between dots that are none, and an RPC that is not in
// snake_case. Dot is where the last dot is, or less than 0.
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

// fromPath returns the bus name that gRPC's path "/service/method" stands for, or
// what a name looks like.
func fromPath(path string) string {
	service, method, ok := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	name := service + "." + contract.SnakeCase(method)
	if _, _, err := SplitName(name); !ok || strings.Contains(name, "/") || err != nil {
		return "a name such as auth.check_password"
	}
	return name
}

// orElse suggests a name, or says what one looks like when it is none itself.
func orElse(name string) string {
	if _, _, err := SplitName(name); err != nil {
		return shape
	}
	return "write " + name
}

func isWord(char rune) bool {
	return 'a' <= char && char <= 'z' || 'A' <= char && char <= 'Z' || '0' <= char && char <= '9' || char == '_'
}
