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

	limit time.Duration // when set
	set   bool
	start time.Time // when not zero
}

// Option returns the call option that sets a unary call's limit; more than zero.
func Option(limit time.Duration) grpc.CallOption { return option{limit: limit, set: true} }

// Since returns the call option that counts a call's time from start instead of
// from when the call reaches its connection.
func Since(start time.Time) grpc.CallOption { return option{start: start} }

// Call is the time of one unary call.
type Call struct {
	start time.Time
	limit Limit
	// exact says that the declared limit, counted from now, would not do.
	exact bool
}

// Begin begins to count a call's time. An option that is not more than zero is
// an INVALID_ARGUMENT error.
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

// HasOption reports whether opts hold an [Option], which streams do not take.
func HasOption(opts []grpc.CallOption) bool {
	for _, opt := range opts {
		if read, ok := opt.(option); ok && read.set {
			return true
		}
	}
	return false
}

// Exact reports whether the call needs a context of its own: see [Call.Context].
// Otherwise a connection with the declared limit in its [MethodConfigs] holds
// it.
func (c Call) Exact() bool { return c.exact }

// Longer reports whether the call may take longer than declared allows, so that
// a connection with that in its [MethodConfigs] would end it too soon.
func (c Call) Longer(declared Limit) bool { return c.limit.Duration > declared.Duration }

// Context returns the call's context with its limit.
func (c Call) Context(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithDeadline(ctx, c.start.Add(c.limit.Duration))
}

// Explain makes of a call's error of time an *[Error] that says which limit
// passed, if one did. ctx is the caller's own. Other errors, and a server's word
// that something of its own took too long, stay as they are.
func (c Call) Explain(ctx context.Context, rpc string, err error) error {
	if status.Code(err) != codes.DeadlineExceeded {
		return err
	}
	limit, deadline := c.limit, c.start.Add(c.limit.Duration)
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

// MethodConfigs returns what makes grpc-go hold each method, such as
// "/auth.v1.AuthService/CheckPassword", to a limit.
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

// seconds writes a duration as JSON does google.protobuf.Duration.
func seconds(d time.Duration) string {
	whole, nanos := d/time.Second, d%time.Second
	if nanos == 0 {
		return strconv.FormatInt(int64(whole), 10) + "s"
	}
	return fmt.Sprintf("%d.%09ds", whole, nanos)
}
