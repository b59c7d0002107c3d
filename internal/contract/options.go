package contract

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/onecall-dev/onecall/internal/quote"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// Names that are reserved for the framework.
const (
	reservedName   = "default"
	reservedPrefix = "default."
)

// maxNameBytes is the longest API name that registries accept.
const maxNameBytes = 255

var busName = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$`)

// IsBuiltin reports whether a service is one of gRPC's own, such as health, or the one by
// which callers settle their calls. Any server may have such services, but they are not
// APIs.
func IsBuiltin(service string) bool {
	switch service {
	case "grpc.health.v1.Health",
		"grpc.reflection.v1.ServerReflection",
		"grpc.reflection.v1alpha.ServerReflection",
		"grpc.channelz.v1.Channelz",
		onecallv1.Calls_ServiceDesc.ServiceName:
		return true
	default:
		return false
	}
}

// CheckName returns an *Error if name cannot be the name of an API, else nil. The error's
// subject is the name. Full proto names are also names of APIs.
func CheckName(name string) error {
	switch {
	case name == "":
		return &Error{Subject: `API ""`, Problem: "the name is empty: give the API's bus name, such as auth"}
	case IsBuiltin(name):
		return &Error{Subject: name, Problem: "this is a service of gRPC's own, no API: dial an instance's address for it"}
	case !busName.MatchString(name) && !protoreflect.FullName(name).IsValid():
		return &Error{
			Subject: "API " + quote.Text(name),
			Problem: "not a name of an API: a bus name is like auth or billing.invoices, a full proto name like auth.v1.AuthService",
		}
	}
	return checkName(name, name)
}

// checkName returns an error if a name is too long or reserved.
func checkName(name, subject string) error {
	if len(name) > maxNameBytes {
		return &Error{Subject: subject, Problem: fmt.Sprintf("the API name %s has %d bytes: choose one of %d at most", quote.Text(name), len(name), maxNameBytes)}
	}
	if name == reservedName || strings.HasPrefix(name, reservedPrefix) {
		return &Error{Subject: subject, Problem: fmt.Sprintf("the API name %s is reserved (%s and %s*): choose another in option (onecall.v1.api).name", quote.Text(name), reservedName, reservedPrefix)}
	}
	return nil
}

// apiOptions reads the bus name and the default timeout of a service.
func apiOptions(service protoreflect.ServiceDescriptor) (string, time.Duration, error) {
	subject := string(service.FullName())
	options := &onecallv1.ApiOptions{}
	if set, ok := service.Options().(*descriptorpb.ServiceOptions); ok && set != nil {
		if extension, ok := proto.GetExtension(set, onecallv1.E_Api).(*onecallv1.ApiOptions); ok && extension != nil {
			options = extension
		}
	}
	name := subject
	if options.Name != nil {
		name = options.GetName()
		if name == "" {
			return "", 0, &Error{Subject: subject, Problem: "option (onecall.v1.api).name is empty: give a name such as auth, or leave the name out to go by " + subject}
		}
		if !busName.MatchString(name) {
			return "", 0, &Error{Subject: subject, Problem: fmt.Sprintf("option (onecall.v1.api).name %s is not a bus name: "+
				"write lower-case words of letters, digits and underscores, joined by dots, such as billing.invoices", quote.Text(name))}
		}
	}
	if err := checkName(name, subject); err != nil {
		return "", 0, err
	}
	timeout, err := positive(options.GetTimeout(), subject, "option (onecall.v1.api).timeout")
	return name, timeout, err
}

// readOptions reads the options of a method into its RPC.
func (r *RPC) readOptions(method protoreflect.MethodDescriptor) error {
	level, options := methodOptions(method)
	r.Idempotency = level
	subject := string(method.FullName())
	if r.Stream && options.GetTimeout() != nil {
		return &Error{Subject: subject, Problem: "option (onecall.v1.rpc).timeout is set on a streaming RPC: " +
			"streams end when either side ends them; remove it and let callers set a deadline on their context"}
	}
	if r.Stream && options.GetKeepReply() != onecallv1.KeepReply_KEEP_REPLY_UNSPECIFIED {
		return &Error{Subject: subject, Problem: "option (onecall.v1.rpc).keep_reply is set on a streaming RPC: replies of streams are not kept; remove it"}
	}
	if r.Stream && options.GetEndWithConnection() {
		return &Error{Subject: subject, Problem: "option (onecall.v1.rpc).end_with_connection is set on a streaming RPC: the context of a stream always ends with its connection; remove it"}
	}
	r.EndsWithConnection = options.GetEndWithConnection()
	var err error
	r.Timeout, err = positive(options.GetTimeout(), subject, "option (onecall.v1.rpc).timeout")
	return err
}

// methodOptions returns the options of a method. The second result is nil if there are none.
func methodOptions(method protoreflect.MethodDescriptor) (Idempotency, *onecallv1.RpcOptions) {
	set, ok := method.Options().(*descriptorpb.MethodOptions)
	if !ok || set == nil {
		return IdempotencyUnknown, nil
	}
	options, _ := proto.GetExtension(set, onecallv1.E_Rpc).(*onecallv1.RpcOptions)
	return set.GetIdempotencyLevel(), options
}

// positive returns a duration, 0 if none is set, and an error if it is not more than zero.
func positive(value *durationpb.Duration, subject, option string) (time.Duration, error) {
	if value == nil {
		return 0, nil
	}
	if err := value.CheckValid(); err != nil {
		return 0, &Error{Subject: subject, Problem: fmt.Sprintf("%s is not a valid google.protobuf.Duration: %v", option, err)}
	}
	if value.AsDuration() <= 0 {
		return 0, &Error{Subject: subject, Problem: fmt.Sprintf("%s is %v: a timeout is more than zero; leave it out to have the default", option, value.AsDuration())}
	}
	return value.AsDuration(), nil
}
