package framework

import (
	"context"
	"errors"

	"github.com/onecall-dev/onecall/framework/internal/server"
	admission "github.com/onecall-dev/onecall/interceptors/atmostonce/server"
)

// Policy says which programs may call which APIs and RPCs. Its keys are bus names: of an
// API, such as "auth", or of an RPC, such as "auth.check_password". Its values are the
// names of principals, exactly as [PrincipalOf] returns them. "*" allows every caller. If
// an RPC has a rule, that of its API does not apply to it. An empty list allows none.
//
// One of gRPC's own services, such as "grpc.reflection.v1.ServerReflection", has its full
// proto name. Its callers are known by their certificates alone.
type Policy map[string][]string

// Authorize refuses the calls that a policy does not allow, with PERMISSION_DENIED and the
// outcome [Refused]: also calls of APIs and RPCs that the policy does not name. It decides
// by the registered method, after the call is admitted and before its rules are checked.
// The health service is open to all. A name that the service does not have is an error of
// [Serve].
//
// The option can be set once, and excludes [AuthorizeFile].
func Authorize(policy Policy) ServeOption {
	return serveOption(func(o *server.Options) error {
		if len(policy) == 0 {
			return errors.New("option Authorize: the policy is empty, so that every call would be refused: leave the option out to allow all calls")
		}
		if o.Policy != nil || o.PolicyFile != "" {
			return errPolicies
		}
		o.Policy = policy
		return nil
	})
}

// AuthorizeFile is [Authorize] with the policy in a file, in JSON:
//
//	{
//		"auth": ["spiffe://example.org/shop", "mail"],
//		"auth.create_user": ["spiffe://example.org/admin"]
//	}
//
// The file is read every 10 seconds. If it has changed, its policy applies to the next
// calls. While it cannot be used, because it is gone, is no JSON or has a name that the
// service does not have, the last good policy stays in use, and the log and the event
// [PolicyChanged] say why. At the start this is an error of [Serve].
func AuthorizeFile(name string) ServeOption {
	return serveOption(func(o *server.Options) error {
		if name == "" {
			return errors.New("option AuthorizeFile: the name is empty: leave the option out to allow all calls")
		}
		if o.Policy != nil || o.PolicyFile != "" {
			return errPolicies
		}
		o.PolicyFile = name
		return nil
	})
}

// errPolicies is the error of a service with two policies.
var errPolicies = errors.New("options Authorize and AuthorizeFile: a policy is given twice: leave one out")

// PrincipalOf returns the name of the program that made a call, from the context of its
// handler or of an interceptor: the name that [WithPrincipal] set, else the one in the
// caller's certificate if that was verified. That is its first URI, such as the SPIFFE ID
// "spiffe://example.org/shop", or its first DNS name if it has no URI. The common name
// never counts. PrincipalOf returns "" if the caller has proven no name.
func PrincipalOf(ctx context.Context) string { return admission.PrincipalOf(ctx) }
