// Package contract reads the API that a .proto file declares into plain values.
//
// A contract is read when a service is registered or first called. It never changes after
// that, so calls read it without a lock. An error in a .proto file is an *Error that names
// the service or method.
package contract

import (
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/quote"
)

// Idempotency is protobuf's idempotency_level. It says whether an RPC may run more than
// once.
type Idempotency = descriptorpb.MethodOptions_IdempotencyLevel

// IdempotencyUnknown is the level of an RPC that declares none. It must not run more than
// once.
const IdempotencyUnknown = descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN

// API is one protobuf service.
type API struct {
	// Name is the bus name, such as "auth".
	Name string
	// Service is the full proto name, such as "auth.v1.AuthService".
	Service string
	// Timeout is the default timeout of the API's unary calls; 0 if none is declared.
	Timeout time.Duration
	// RPCs are the methods in the order of the .proto file.
	RPCs []RPC
}

// RPC is one method of an API.
type RPC struct {
	// Name is the bus name, such as "auth.check_password".
	Name string
	// Method is gRPC's path, such as "/auth.v1.AuthService/CheckPassword".
	Method string
	// Stream is true if the requests or the replies are a stream.
	Stream bool
	// Timeout is the RPC's own timeout; 0 if none is declared.
	Timeout time.Duration
	// Idempotency is the declared level; unknown if none is declared.
	Idempotency Idempotency
	// EndsWithConnection is true if the RPC declares that the context of its handler ends
	// when the connection of its caller is lost.
	EndsWithConnection bool
}

// Error is an error in a .proto file.
type Error struct {
	// Subject is the full proto name of the service or method with the error.
	Subject string
	// Problem says what is wrong and what to write instead.
	Problem string
}

// maxSubjectBytes bounds a subject in an error text, because the .proto file may be that
// of an instance.
const maxSubjectBytes = 300

// Error implements error.
func (e *Error) Error() string { return quote.Line(e.Subject, maxSubjectBytes) + ": " + e.Problem }

// FromDescriptor reads the contract of a service. It returns errors of type *Error.
func FromDescriptor(service protoreflect.ServiceDescriptor) (*API, error) {
	name, timeout, err := apiOptions(service)
	if err != nil {
		return nil, err
	}
	api := &API{Name: name, Service: string(service.FullName()), Timeout: timeout}
	methods := service.Methods()
	for i := range methods.Len() {
		rpc, err := readRPC(api, methods.Get(i))
		if err != nil {
			return nil, err
		}
		api.RPCs = append(api.RPCs, rpc)
	}
	if err := checkRPCNames(api); err != nil {
		return nil, err
	}
	return api, nil
}

// FromServiceDesc returns the contract of a service whose descriptor is not linked into
// the program. Such a service has no options, so its bus name is its full proto name. It
// returns errors of type *Error.
func FromServiceDesc(desc *grpc.ServiceDesc) (*API, error) {
	if err := CheckName(desc.ServiceName); err != nil {
		return nil, err
	}
	api := &API{Name: desc.ServiceName, Service: desc.ServiceName}
	add := func(method string, stream bool) {
		api.RPCs = append(api.RPCs, RPC{
			Name:   RPCName(api.Name, method),
			Method: path(desc.ServiceName, method),
			Stream: stream,
		})
	}
	for _, method := range desc.Methods {
		add(method.MethodName, false)
	}
	for _, stream := range desc.Streams {
		add(stream.StreamName, true)
	}
	if err := checkRPCNames(api); err != nil {
		return nil, err
	}
	return api, nil
}

// checkRPCNames returns an error if two RPCs have the same bus name.
func checkRPCNames(api *API) error {
	seen := make(map[string]string, len(api.RPCs))
	for _, rpc := range api.RPCs {
		// The method as protobuf writes it: service.method.
		method := strings.ReplaceAll(rpc.Method[1:], "/", ".")
		if first, taken := seen[rpc.Name]; taken {
			return &Error{Subject: method, Problem: "its bus name " + quote.Line(rpc.Name, maxSubjectBytes) + " is also that of " + quote.Line(first, maxSubjectBytes) + ": rename one of the two methods"}
		}
		seen[rpc.Name] = method
	}
	return nil
}

func readRPC(api *API, method protoreflect.MethodDescriptor) (RPC, error) {
	rpc := RPC{
		Name:   RPCName(api.Name, string(method.Name())),
		Method: path(api.Service, string(method.Name())),
		Stream: method.IsStreamingClient() || method.IsStreamingServer(),
	}
	err := rpc.readOptions(method)
	return rpc, err
}

// RPCName returns the bus name of a method: the API's name, a dot and the
// method's name in snake_case.
func RPCName(api, method string) string { return api + "." + SnakeCase(method) }

// SplitMethod splits gRPC's path "/service/method". ok is false if path does not have
// that form.
func SplitMethod(path string) (service, method string, ok bool) {
	rest, found := strings.CutPrefix(path, "/")
	if !found {
		return "", "", false
	}
	service, method, ok = strings.Cut(rest, "/")
	return service, method, ok && service != "" && method != "" && !strings.Contains(method, "/")
}

func path(service, method string) string { return "/" + service + "/" + method }

// SnakeCase returns a name in snake_case: CheckPassword becomes check_password.
//
//   - A word begins with an upper-case letter that follows a lower-case letter or
//     a digit.
//   - Several upper-case letters in a row are one word, an acronym. If lower-case
//     letters follow, the last of them begins the next word: GetHTTPStatus is
//     get_http_status. The s of a plural is part of the acronym: GetIDs is get_ids,
//     ListVMsOfUser is list_vms_of_user.
//   - Digits are part of the word before them: SignSHA256Sum is sign_sha256_sum,
//     OAuth2Login is o_auth2_login.
func SnakeCase(name string) string {
	var out strings.Builder
	for i := range len(name) {
		char := name[i]
		if !isUpper(char) {
			out.WriteByte(char)
			continue
		}
		afterWord := i > 0 && name[i-1] != '_' && !isUpper(name[i-1])
		beforeWord := i > 0 && isUpper(name[i-1]) && i+1 < len(name) && isLower(name[i+1]) && !endsPlural(name, i+1)
		if afterWord || beforeWord {
			out.WriteByte('_')
		}
		out.WriteByte(char + ('a' - 'A'))
	}
	return out.String()
}

// endsPlural reports whether the letter at i is an s that no lower-case letter follows.
func endsPlural(name string, i int) bool {
	return name[i] == 's' && (i+1 == len(name) || !isLower(name[i+1]))
}

// SameLetters reports whether two names differ only in underscores and case. Such names
// are often confused.
func SameLetters(a, b string) bool {
	return strings.EqualFold(strings.ReplaceAll(a, "_", ""), strings.ReplaceAll(b, "_", ""))
}

func isUpper(char byte) bool { return 'A' <= char && char <= 'Z' }

func isLower(char byte) bool { return 'a' <= char && char <= 'z' }
