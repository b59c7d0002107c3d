package framework

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/nearest"
	"github.com/onecall-dev/onecall/internal/protoargs"
	"github.com/onecall-dev/onecall/internal/quote"
	"github.com/onecall-dev/onecall/internal/schema"
)

// Args are the parameters of a call by name: the names are those of the
// request's fields in the .proto. A value is converted to the field's type
// exactly or refused; docs/named-parameters.md has the table.
type Args map[string]any

// Call makes a unary call by name, without generated code:
//
//	reply, err := bus.Call(ctx, "auth.check_password", framework.Args{"username": "adam", "password": "secr3t"})
//
// The schema is the program's own where the API's generated code is linked in and
// has the RPC, else what an instance published in the registry. After the parameters there
// may be options of the call, such as [Timeout]. Parameters go by name only, and
// all that are not optional must be given.
//
// Errors are those of [Bus.Invoke], and INVALID_ARGUMENT with google.rpc.BadRequest
// for a name that is none, positional, unknown, missing and unfit parameters,
// all at once and before anything is sent, with the right call in the text;
// UNIMPLEMENTED for an RPC that the API does not have.
func (b *Bus) Call(ctx context.Context, name string, args ...any) (*Reply, error) {
	if ctx == nil {
		return nil, invalid(name, "the context is nil: give context.Background() if there is no other")
	}
	parameters, options, given := sortArgs(args)
	rpc, options, err := b.rpcByName(ctx, name, given, options)
	if err != nil {
		return nil, b.notCalled(ctx, name, false, err)
	}
	request, err := rpc.plan.Limit(sendLimit(options, b.options.sendLimit)).Encode(parameters)
	if err != nil {
		return nil, b.notCalled(ctx, name, false, misuseError(err))
	}
	reply := rpc.newReply()
	if err := rpc.route.call(ctx, request, reply, options); err != nil {
		return nil, err
	}
	return &Reply{rpc: name, message: reply, types: rpc.types}, nil
}

// sortArgs splits the arguments of a call. positional are the values if they are not
// one set of parameters that comes first.
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

// misuseError returns the error of a call that misuse kept from being sent.
func misuseError(err error) error {
	if st, ok := status.FromError(err); ok { // which has details
		return &callError{status: st, text: err.Error(), outcome: NotSent, causes: []error{err}}
	}
	return notSent(codes.InvalidArgument, err.Error(), err)
}

// byNameRPC is what a call by name needs.
type byNameRPC struct {
	route  *route
	plan   *protoargs.Plan
	types  schema.Types
	output protoreflect.MessageDescriptor
	// digest is that of a schema from the registry, "" of the program's own.
	digest string
}

// isCurrent reports whether the schema is the program's own or that of an instance.
func (r *byNameRPC) isCurrent() bool { return r.digest == "" || r.route.client.api.isCurrent(r.digest) }

// newReply returns a message for the reply.
func (r *byNameRPC) newReply() proto.Message {
	if found, err := r.types.FindMessageByName(r.output.FullName()); err == nil {
		return found.New().Interface()
	}
	return dynamicpb.NewMessage(r.output)
}

// rpcByName finds the RPC of a bus name. positional are values that a call must not
// have: then it returns an error without any I/O. It returns the options of the call
// too, with the time that reading the schema took.
func (b *Bus) rpcByName(ctx context.Context, name string, positional []any, options []grpc.CallOption) (*byNameRPC, []grpc.CallOption, error) {
	known, ok := b.knownRPC(name)
	if ok && positional == nil && known.isCurrent() {
		return known, options, nil
	}
	api, rpc, err := protoargs.SplitName(name)
	if err != nil {
		return nil, nil, misuseError(err)
	}
	if b.closed.Load() {
		return nil, nil, closedError(name)
	}
	own := b.linkedSchema(api, rpc)
	if positional != nil {
		return nil, nil, b.usageError(api, name, rpc, own, positional)
	}
	found, digest, options, err := b.schemaOf(ctx, api, name, rpc, own, options)
	if err != nil {
		return nil, nil, err
	}
	added, err := b.newByNameRPC(found, api, name, rpc)
	if err != nil {
		return nil, nil, err
	}
	added.digest = digest
	b.byName.Store(name, added)
	return added, options, nil
}

// schemaOf returns the schema for an RPC, its digest if it is from the registry, and
// the call's options with the time that it took. own is the program's own schema of
// the API; instances may be newer, and have an RPC that it does not have.
func (b *Bus) schemaOf(ctx context.Context, api, name, rpc string, own *schema.Schema, options []grpc.CallOption) (*schema.Schema, string, []grpc.CallOption, error) {
	if own != nil && methodByName(own.Service, api, rpc) != nil {
		return own, "", options, nil
	}
	start := time.Now()
	found, digest, err := b.remoteSchema(ctx, api, name, rpc, options)
	if err != nil && own != nil && ctx.Err() == nil && !b.closed.Load() {
		err = unknownRPC(own.Service, api, rpc, err)
	}
	if err != nil {
		return nil, "", nil, err
	}
	if found, err = found.WithoutExpressions(); err != nil {
		return nil, "", nil, notSent(codes.Internal, fmt.Sprintf("%s: the schema that its instances publish cannot be read: %v", name, err), err)
	}
	return found, digest, append(slices.Clip(options), timeout.Since(start)), nil
}

// knownRPC returns an RPC that was called by name before.
func (b *Bus) knownRPC(name string) (*byNameRPC, bool) {
	known, _ := b.byName.Load(name)
	rpc, ok := known.(*byNameRPC)
	return rpc, ok
}

// linkedSchema returns the schema of an API as it is linked into the program, nil
// when it is not: of several services of that name the one that has the RPC.
func (b *Bus) linkedSchema(api, rpc string) *schema.Schema {
	if method := b.contracts.RPC(api + "." + rpc); method != nil {
		return schema.Of(method.Service.Descriptor)
	}
	if services := b.contracts.Named(api); len(services) > 0 {
		return schema.Of(services[0].Descriptor)
	}
	if service := b.contracts.Service(api); service != nil { // by its full proto name
		return schema.Of(service.Descriptor)
	}
	return nil
}

// methodByName returns the method of an RPC's own name, nil when there is none.
func methodByName(service protoreflect.ServiceDescriptor, api, rpc string) protoreflect.MethodDescriptor {
	for i := range service.Methods().Len() {
		if method := service.Methods().Get(i); contract.RPCName(api, string(method.Name())) == api+"."+rpc {
			return method
		}
	}
	return nil
}

// unaryMethod returns the method of an RPC that can be called by name.
func unaryMethod(service protoreflect.ServiceDescriptor, api, name, rpc string) (protoreflect.MethodDescriptor, error) {
	method := methodByName(service, api, rpc)
	if method == nil {
		err := noSuchRPC(service, api, rpc)
		return nil, notSent(codes.Unimplemented, err.Error(), err)
	}
	if method.IsStreamingClient() || method.IsStreamingServer() {
		return nil, invalid(name, "it is a stream, which cannot be called by name: use its generated client")
	}
	return method, nil
}

// newByNameRPC returns what calls of an RPC by name need.
func (b *Bus) newByNameRPC(found *schema.Schema, api, name, rpc string) (*byNameRPC, error) {
	method, err := unaryMethod(found.Service, api, name, rpc)
	if err != nil {
		return nil, err
	}
	path := fmt.Sprintf("/%s/%s", found.Service.FullName(), method.Name())
	out := &byNameRPC{plan: protoargs.NewPlan(name, method.Input(), found.Types), types: found.Types, output: method.Output()}
	if linkedService(string(found.Service.FullName())) == found.Service {
		out.route, err = b.route(context.Background(), path, nil) // linked in: it waits for nothing
		return out, err
	}
	described, err := contract.FromDescriptor(found.Service)
	if err != nil {
		return nil, faulty(name, err)
	}
	rules, err := validate.NewCompiler(found.Types).Compile(name, method)
	if err != nil {
		return nil, faulty(name, err)
	}
	client, err := b.connect(api, described.Service, name)
	if err != nil {
		return nil, err
	}
	out.route = newRoute(client, described, path, &described.RPCs[method.Index()], rules)
	return out, nil
}

// unknownRPC is of an RPC that the program's own .proto does not have, when why keeps it
// from finding out whether instances have it.
func unknownRPC(own protoreflect.ServiceDescriptor, api, rpc string, why error) error {
	text := noSuchRPC(own, api, rpc).Error() + " (so says this program's own .proto; what the instances have is not known: " + status.Convert(why).Message() + ")"
	return notSent(codes.Unimplemented, text, why)
}

// maxShownRPCs is how many RPCs of an API a text shows.
const maxShownRPCs = 20

// noSuchRPC says that an API does not have an RPC.
func noSuchRPC(service protoreflect.ServiceDescriptor, api, rpc string) error {
	own := make([]string, service.Methods().Len())
	for i := range own {
		own[i] = strings.TrimPrefix(contract.RPCName(api, string(service.Methods().Get(i).Name())), api+".")
	}
	const few = 3
	near := slices.DeleteFunc(slices.Clone(own), func(name string) bool { return !contract.SameLetters(name, rpc) })
	if len(near) == 0 {
		near = nearest.Names(rpc, own, few)
	}
	if len(near) > 0 {
		return fmt.Errorf("%s.%s: API %q has no such RPC: did you mean %s.%s?", api, rpc, api, api, strings.Join(near, " or "+api+"."))
	}
	return fmt.Errorf("%s.%s: API %q has no such RPC: it has %s", api, rpc, api, quote.Names(own, maxShownRPCs))
}

// Reply is the reply of a call by name. Its methods are safe for all goroutines.
type Reply struct {
	rpc     string
	message proto.Message
	types   schema.Types
}

// Message returns the reply itself: of the generated type where that is linked
// in, else a dynamic one. It must not be changed.
func (r *Reply) Message() proto.Message { return r.message }

// Map returns the reply as plain Go values, by the names of its fields:
// docs/named-parameters.md has the table.
func (r *Reply) Map() map[string]any { return protoargs.ToMap(r.message, r.types) }

// Into puts the reply into dest: a pointer to a map[string]any, to a struct
// whose fields go by their json tags or in snake_case, or to what the reply's
// only field fits into; or a message of the reply's type. A value fits exactly
// or is an error that names the field.
func (r *Reply) Into(dest any) error {
	if err := protoargs.Decode(r.message, r.types, dest); err != nil {
		return fmt.Errorf("%s: %w", r.rpc, err)
	}
	return nil
}
