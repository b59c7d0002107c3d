package client

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

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/schemas"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/nearest"
	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	"github.com/onecall-dev/onecall/internal/quote"
	"github.com/onecall-dev/onecall/internal/schema"
)

// CallByName makes a unary call by name. positional are the values of a wrong call that
// have no names: see framework.Bus.Call.
func (b *Bus) CallByName(ctx context.Context, name string, parameters map[string]any, options []grpc.CallOption, positional []any) (proto.Message, schema.Types, error) {
	if ctx == nil {
		return nil, nil, callerr.Invalid(name, "the context is nil: give context.Background() if there is no other")
	}
	rpc, options, err := b.rpcByName(ctx, name, false, positional, options)
	if err != nil {
		return nil, nil, b.notCalled(ctx, name, false, err)
	}
	request, err := rpc.plan.Limit(client.SendLimit(options, b.options.sendLimit)).Encode(parameters)
	if err != nil {
		return nil, nil, b.notCalled(ctx, name, false, misuseError(err))
	}
	reply := rpc.newReply()
	if err := rpc.route.Call(ctx, request, reply, options); err != nil {
		return nil, nil, err
	}
	return reply, rpc.types, nil
}

// Schema returns the schema of an API: the program's own if it is linked in, otherwise one
// that an instance publishes.
func (b *Bus) Schema(ctx context.Context, api string) (*schema.Schema, error) {
	if found := b.linkedSchema(api, ""); found != nil {
		return found, nil
	}
	found, _, err := b.remoteSchema(ctx, api, api, "", nil)
	return found, err
}

// misuseError returns the error of a call that was not sent because its name or
// parameters are wrong.
func misuseError(err error) error {
	if st, ok := status.FromError(err); ok { // its status has details
		return callerr.New(st, atmostonce.NotSent, err.Error(), err)
	}
	return callerr.NotSent(codes.InvalidArgument, err.Error(), err)
}

// byNameRPC is an RPC that can be called by name.
type byNameRPC struct {
	route *Route
	// stream describes the stream, nil of a unary RPC.
	stream *grpc.StreamDesc
	plan   *encode.Plan
	types  schema.Types
	output protoreflect.MessageDescriptor
	// digest is the digest of a schema from the registry, "" for the program's own.
	digest string
}

// isCurrent reports whether the schema is the program's own or an instance has it.
func (r *byNameRPC) isCurrent() bool { return r.digest == "" || r.route.client.api.isCurrent(r.digest) }

// newReply returns a message for the reply.
func (r *byNameRPC) newReply() proto.Message {
	if found, err := r.types.FindMessageByName(r.output.FullName()); err == nil {
		return found.New().Interface()
	}
	return dynamicpb.NewMessage(r.output)
}

// rpcByName returns the RPC of a bus name, which must be a stream or not, and the options
// of the call with the time that reading the schema took. If there are positional values,
// it returns an error without any I/O, because a call must not have them.
func (b *Bus) rpcByName(ctx context.Context, name string, stream bool, positional []any, options []grpc.CallOption) (*byNameRPC, []grpc.CallOption, error) {
	known, ok := b.knownRPC(name)
	if ok && positional == nil && known.isCurrent() && (known.stream != nil) == stream {
		return known, options, nil
	}
	api, rpc, err := encode.SplitName(name)
	if err != nil {
		return nil, nil, misuseError(err)
	}
	if b.closed.Load() {
		return nil, nil, callerr.Closed(name)
	}
	own := b.linkedSchema(api, rpc)
	if positional != nil {
		return nil, nil, b.usageError(api, name, rpc, own, positional)
	}
	found, digest, options, err := b.schemaOf(ctx, api, name, rpc, own, options)
	if err != nil {
		return nil, nil, err
	}
	added, err := b.newByNameRPC(found, api, name, rpc, stream)
	if err != nil {
		return nil, nil, err
	}
	added.digest = digest
	b.byName.Store(name, added)
	return added, options, nil
}

// schemaOf returns the schema for an RPC, its digest if it is from the registry, and
// the call's options with the time that reading it took. own is the program's own
// schema of the API, or nil. Instances may be newer and have an RPC that own does not
// have.
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
		return nil, "", nil, callerr.NotSent(codes.Internal, fmt.Sprintf("%s: the schema that its instances publish cannot be read: %v", name, err), err)
	}
	return found, digest, append(slices.Clip(options), timeout.Since(start)), nil
}

// knownRPC returns an RPC that was called by name before.
func (b *Bus) knownRPC(name string) (*byNameRPC, bool) {
	known, _ := b.byName.Load(name)
	rpc, ok := known.(*byNameRPC)
	return rpc, ok
}

// linkedSchema returns the schema of an API that is linked into the program, nil if
// none is. If several services have that name, it is the schema of the service that
// has the RPC.
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

// methodByName returns the method of an RPC, by its name without the API's, nil if
// there is none.
func methodByName(service protoreflect.ServiceDescriptor, api, rpc string) protoreflect.MethodDescriptor {
	for i := range service.Methods().Len() {
		if method := service.Methods().Get(i); contract.RPCName(api, string(method.Name())) == api+"."+rpc {
			return method
		}
	}
	return nil
}

// methodFor returns the method of an RPC, which must be a stream or not.
func methodFor(service protoreflect.ServiceDescriptor, api, name, rpc string, stream bool) (protoreflect.MethodDescriptor, error) {
	method := methodByName(service, api, rpc)
	if method == nil {
		err := noSuchRPC(service, api, rpc)
		return nil, callerr.NotSent(codes.Unimplemented, err.Error(), err)
	}
	switch is := method.IsStreamingClient() || method.IsStreamingServer(); {
	case is && !stream:
		return nil, callerr.Invalid(name, "it is a stream, which Bus.Call does not call: begin it with Bus.Stream, or use its generated client")
	case stream && !is:
		return nil, callerr.Invalid(name, "it is not a stream: call it with Bus.Call, or use its generated client")
	}
	return method, nil
}

// newByNameRPC returns an RPC that can be called by name.
func (b *Bus) newByNameRPC(found *schema.Schema, api, name, rpc string, stream bool) (*byNameRPC, error) {
	method, err := methodFor(found.Service, api, name, rpc, stream)
	if err != nil {
		return nil, err
	}
	path := fmt.Sprintf("/%s/%s", found.Service.FullName(), method.Name())
	out := &byNameRPC{plan: encode.NewPlan(name, method.Input(), found.Types), types: found.Types, output: method.Output()}
	if stream {
		out.stream = &grpc.StreamDesc{StreamName: string(method.Name()), ClientStreams: method.IsStreamingClient(), ServerStreams: method.IsStreamingServer()}
	}
	if schemas.LinkedService(string(found.Service.FullName())) == found.Service {
		out.route, err = b.route(context.Background(), path, nil) // linked in: it waits for nothing
		return out, err
	}
	described, err := contract.FromDescriptor(found.Service)
	if err != nil {
		return nil, callerr.Faulty(name, err)
	}
	rules, err := validate.NewCompiler(found.Types).Compile(name, method)
	if err != nil {
		return nil, callerr.Faulty(name, err)
	}
	conn, err := b.connect(api, described.Service, name)
	if err != nil {
		return nil, err
	}
	out.route = newRoute(conn, described, path, &described.RPCs[method.Index()], rules)
	return out, nil
}

// unknownRPC returns the error of an RPC that the program's own .proto does not have. why
// is the error of reading the schema of an instance, which may have it.
func unknownRPC(own protoreflect.ServiceDescriptor, api, rpc string, why error) error {
	text := noSuchRPC(own, api, rpc).Error() + " (so says this program's own .proto; what the instances have is not known: " + status.Convert(why).Message() + ")"
	return callerr.NotSent(codes.Unimplemented, text, why)
}

// maxShownRPCs is how many RPCs of an API an error text shows at most.
const maxShownRPCs = 20

// noSuchRPC returns an error which says that an API does not have an RPC.
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
