package timeout

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// option is a call option that only [Begin] reads.
type option struct {
	grpc.EmptyCallOption

	limit time.Duration // valid if set is true
	set   bool
	start time.Time // zero if not set
}

// Option returns the call option that sets a unary call's timeout. limit must be more
// than zero.
func Option(limit time.Duration) grpc.CallOption { return option{limit: limit, set: true} }

// Since returns the call option that makes a call's timeout begin at start. Without it,
// the timeout begins when the call reaches its connection.
func Since(start time.Time) grpc.CallOption { return option{start: start} }

// Call is the timeout of one unary call.
type Call struct {
	start time.Time
	limit Limit
	// exact is true if an option changed the limit or the start, so that the declared
	// limit, counted from now, is wrong for this call.
	exact bool
}

// Begin starts the timeout of a call. It returns an INVALID_ARGUMENT error if [Option]
// has a limit that is not more than zero.
func Begin(declared Limit, opts []grpc.CallOption) (Call, error) {
	call := Call{limit: declared}
	for _, opt := range opts {
		read, ok := opt.(option)
		if !ok {
			continue
		}
		if read.set {
			if read.limit <= 0 {
				return Call{}, status.Errorf(codes.InvalidArgument, "option Timeout is %v: a timeout is more than zero; leave it out to have the declared one", read.limit)
			}
			call.limit = Limit{read.limit, FromOption}
			call.exact = true
		}
		if !read.start.IsZero() {
			call.start = read.start
			call.exact = true
		}
	}
	if call.start.IsZero() {
		call.start = time.Now()
	}
	return call, nil
}

// HasOption reports whether opts contain an [Option]. Streams do not support it.
func HasOption(opts []grpc.CallOption) bool {
	for _, opt := range opts {
		if read, ok := opt.(option); ok && read.set {
			return true
		}
	}
	return false
}

// Exact reports whether the call needs a context of its own: see [Call.Context]. If not,
// a connection with the declared limit in its [MethodConfigs] applies the timeout.
func (c Call) Exact() bool { return c.exact }

// Longer reports whether the call may take longer than the declared limit. A connection
// with the declared limit in its [MethodConfigs] would end such a call too early.
func (c Call) Longer(declared Limit) bool { return c.limit.Duration > declared.Duration }

// Deadline returns when the timeout of the call is over.
func (c Call) Deadline() time.Time { return c.start.Add(c.limit.Duration) }

// Context returns ctx with the call's deadline.
func (c Call) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, c.Deadline())
}

// Explain returns an *[Error] that names the limit, if err has the code
// DEADLINE_EXCEEDED and the call's deadline has passed. ctx is the caller's own context.
// Explain returns all other errors unchanged, among them a DEADLINE_EXCEEDED that the
// server returned before the deadline.
func (c Call) Explain(ctx context.Context, rpc string, err error) error {
	if status.Code(err) != codes.DeadlineExceeded {
		return err
	}
	limit, deadline := c.limit, c.Deadline()
	if own, ok := ctx.Deadline(); ok && own.Before(deadline) {
		deadline, limit = own, Limit{own.Sub(c.start), FromCaller}
	}
	if time.Now().Before(deadline) {
		return err
	}
	return &Error{RPC: rpc, Limit: limit, Cause: err}
}

// MethodConfig is an element of methodConfig in gRPC's service config
// (grpc.service_config.MethodConfig, as JSON).
type MethodConfig struct {
	Name    []MethodName `json:"name"`
	Timeout string       `json:"timeout"`
}

// MethodName names a method in a [MethodConfig].
type MethodName struct {
	Service string `json:"service"`
	Method  string `json:"method"`
}

// MethodConfigs returns the part of a service config that makes grpc-go apply each limit.
// The keys are method paths, such as "/auth.v1.AuthService/CheckPassword".
func MethodConfigs(limits map[string]Limit) []MethodConfig {
	configs := make([]MethodConfig, 0, len(limits))
	for path, limit := range limits {
		service, method, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
		configs = append(configs, MethodConfig{
			Name:    []MethodName{{Service: service, Method: method}},
			Timeout: seconds(limit.Duration),
		})
	}
	return configs
}

// seconds formats a duration as google.protobuf.Duration in JSON.
func seconds(d time.Duration) string {
	whole, nanos := d/time.Second, d%time.Second
	if nanos == 0 {
		return strconv.FormatInt(int64(whole), 10) + "s"
	}
	return fmt.Sprintf("%d.%09ds", whole, nanos)
}
