package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/framework/internal/notifier"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/server"
	"github.com/onecall-dev/onecall/internal/lastgood"
	"github.com/onecall-dev/onecall/internal/lograte"
	"github.com/onecall-dev/onecall/internal/nearest"
	"github.com/onecall-dev/onecall/internal/quote"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
	"github.com/onecall-dev/onecall/telemetry"
)

// anyone is the principal of a policy that stands for all callers.
const anyone = "*"

// callable are the methods that a policy can name.
type callable struct {
	// groups are the paths of the methods of each API, by its bus name, and of each of
	// gRPC's own services, by its full proto name.
	groups map[string][]string
	// rpcs are the paths of the RPCs of APIs, by bus name.
	rpcs map[string]string
}

// open are the methods that no policy restricts, by gRPC's path: buses and load balancers
// need health, and Settle answers only the caller of a call.
var open = slices.Concat(pathsOf(&grpc_health_v1.Health_ServiceDesc), pathsOf(&onecallv1.Calls_ServiceDesc))

// pathsOf returns the paths of the methods of a service.
func pathsOf(desc *grpc.ServiceDesc) []string {
	var paths []string
	for _, method := range desc.Methods {
		paths = append(paths, "/"+desc.ServiceName+"/"+method.MethodName)
	}
	for _, stream := range desc.Streams {
		paths = append(paths, "/"+desc.ServiceName+"/"+stream.StreamName)
	}
	return paths
}

// addBuiltin adds one of gRPC's own services.
func (c callable) addBuiltin(desc *grpc.ServiceDesc) {
	if desc.ServiceName != grpc_health_v1.Health_ServiceDesc.ServiceName {
		c.groups[desc.ServiceName] = pathsOf(desc)
	}
}

// paths returns the paths that a name of a policy stands for.
func (c callable) paths(name string) ([]string, error) {
	group, isGroup := c.groups[name]
	path, isRPC := c.rpcs[name]
	switch {
	case isGroup && isRPC:
		return nil, fmt.Errorf("%q is an API and an RPC of another: rename one of them", name)
	case isGroup:
		return group, nil
	case isRPC:
		return []string{path}, nil
	}
	var known []string
	for name := range c.groups {
		known = append(known, name)
	}
	for name := range c.rpcs {
		known = append(known, name)
	}
	const most = 3
	if near := nearest.Names(name, known, most); len(near) > 0 {
		return nil, fmt.Errorf("the service has no API and no RPC %s: did you mean %s?", quote.Text(name), quote.Names(near, most))
	}
	slices.Sort(known)
	return nil, fmt.Errorf("the service has no API and no RPC %s: it has %s", quote.Text(name), quote.Names(known, mostNames))
}

// mostNames is how many names an error lists.
const mostNames = 10

// permissions are who may call each method, by gRPC's path. It has every registered method
// that a policy can restrict.
type permissions map[string]principals

// principals are who may call a method. The zero value allows no caller.
type principals struct {
	anyone bool
	names  map[string]bool
}

// compile returns the permissions of a policy. The rule of an RPC replaces that of its API.
func (c callable) compile(policy map[string][]string) (*permissions, error) {
	if len(policy) == 0 {
		return nil, errors.New("it names no API and no RPC, so that every call would be refused")
	}
	allowed := make(permissions)
	for _, paths := range c.groups {
		for _, path := range paths {
			allowed[path] = principals{}
		}
	}
	for _, ofRPCs := range []bool{false, true} {
		for name, listed := range policy {
			paths, err := c.paths(name)
			if err != nil {
				return nil, err
			}
			if _, isRPC := c.rpcs[name]; isRPC != ofRPCs {
				continue
			}
			read, err := readPrincipals(name, listed)
			if err != nil {
				return nil, err
			}
			for _, path := range paths {
				allowed[path] = read
			}
		}
	}
	return &allowed, nil
}

// readPrincipals returns the principals of a rule.
func readPrincipals(name string, listed []string) (principals, error) {
	read := principals{names: make(map[string]bool, len(listed))}
	for _, principal := range listed {
		switch {
		case principal == "" || principal != strings.TrimSpace(principal):
			return principals{}, fmt.Errorf("%s: the principal %q is empty or has spaces around it: write the name as PrincipalOf returns it", name, principal)
		case principal == anyone:
			read.anyone = true
		default:
			read.names[principal] = true
		}
	}
	return read, nil
}

// authorization decides who may call the methods of a service. Its methods do nothing for
// nil.
type authorization struct {
	log    *slog.Logger
	notify *notifier.Notifier
	names  map[string]string // the bus names of RPCs, by gRPC's path
	file   *lastgood.Value[*permissions]
	// allowed is replaced when the file changes.
	allowed atomic.Pointer[permissions]
	// refused limits the lines about calls that were refused.
	refused lograte.Limiter
	// problem is the text of the last error of the file, "" if there is none.
	problem atomic.Pointer[string]
}

// newAuthorization returns the authorization of a service, nil if it has no policy.
func newAuthorization(o Options, methods callable) (*authorization, error) {
	if o.Policy == nil && o.PolicyFile == "" {
		return nil, nil //nolint:nilnil // nil authorizes every call
	}
	a := &authorization{log: o.Log, notify: o.notify, names: make(map[string]string)}
	for name, path := range methods.rpcs {
		a.names[path] = name
	}
	if o.PolicyFile == "" {
		allowed, err := methods.compile(o.Policy)
		if err != nil {
			return nil, fmt.Errorf("option Authorize: %w", err)
		}
		a.allowed.Store(allowed)
		return a, nil
	}
	a.file = lastgood.New(func(contents [][]byte) (*permissions, error) {
		policy, err := parsePolicy(contents[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.PolicyFile, err)
		}
		allowed, err := methods.compile(policy)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", o.PolicyFile, err)
		}
		return allowed, nil
	}, o.PolicyFile)
	if _, err := a.file.Read(); err != nil {
		return nil, fmt.Errorf("option AuthorizeFile: %w", err)
	}
	a.refresh()
	return a, nil
}

// refresh reads the file, if there is one.
func (a *authorization) refresh() {
	allowed, err := a.file.Read()
	problem := ""
	if err != nil {
		problem = err.Error()
	}
	before := a.problem.Swap(&problem)
	changed, failed := a.allowed.Swap(allowed) != allowed, before != nil && problem != *before
	switch {
	case failed && err != nil:
		a.log.Error("the file of option AuthorizeFile cannot be used: the last good policy stays in use", "error", err)
	case changed, failed:
		a.log.Info("using the policy of option AuthorizeFile")
	default:
		return
	}
	a.notify.Notify(context.Background(), observe.PolicyChanged{Err: err})
}

// collect adds the metrics of a policy in a file.
func (a *authorization) collect(add func(telemetry.Metric)) {
	if a == nil || a.file == nil {
		return
	}
	add(telemetry.PolicyUnusable.Value(telemetry.Flag(*a.problem.Load() != "")))
}

// watch refreshes the authorization until stop.
func (a *authorization) watch() (stop func()) {
	if a == nil || a.file == nil {
		return func() {}
	}
	return lastgood.Poll(a.refresh)
}

// check returns an error if the caller may not call a registered method.
func (a *authorization) check(ctx context.Context, path string) error {
	if a == nil {
		return nil
	}
	allowed, restricted := (*a.allowed.Load())[path]
	if allowed.anyone || !restricted && slices.Contains(open, path) {
		return nil
	}
	name := server.PrincipalOf(ctx)
	if name != "" && allowed.names[name] {
		return nil
	}
	return a.refuse(ctx, path, name)
}

// How many lines a minute are logged about refused calls of an RPC, and how many bytes of
// a principal.
const (
	mostRefused       = 3
	maxPrincipalBytes = 300
)

// refuse returns the error of a call that is not allowed. It does not say who may call, or
// who the caller is.
func (a *authorization) refuse(ctx context.Context, path, principal string) error {
	rpc := path
	if name, ok := a.names[path]; ok {
		rpc = name
	}
	if a.refused.Allow(rpc, mostRefused) {
		a.log.WarnContext(ctx, "a call was refused: the policy does not allow it to its caller", "rpc", rpc, "principal", quote.Line(principal, maxPrincipalBytes))
	}
	return errDenied
}

// errDenied is the error of a call that is not allowed.
var errDenied = status.Error(codes.PermissionDenied, "the policy of the service does not allow this call to its caller")

// unary returns the interceptor of unary calls of APIs.
func (a *authorization) unary() grpc.UnaryServerInterceptor {
	if a == nil {
		return nil
	}
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if err := a.check(ctx, server.MethodOf(ctx)); err != nil {
			return nil, err
		}
		return handler(ctx, req)
	}
}

// stream returns the interceptor of all streams. grpc-go serves a call of a method that is
// not registered as a stream. It ends here, so that nothing after authorization runs.
func (a *authorization) stream(c *chain) grpc.StreamServerInterceptor {
	if a == nil {
		return nil
	}
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		if _, registered := (*a.allowed.Load())[info.FullMethod]; !registered && !slices.Contains(open, info.FullMethod) {
			return c.guard.UnknownMethod(srv, stream)
		}
		if err := a.check(stream.Context(), info.FullMethod); err != nil {
			return err
		}
		return handler(srv, stream)
	}
}
