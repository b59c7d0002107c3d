package frameworktest

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/framework"
)

// Recorded is a call whose handler, or whose fake, ran.
type Recorded struct {
	// RPC is the bus name, Method gRPC's path.
	RPC, Method string
	// Instance is the instance that served the call.
	Instance *Instance
	// Requests and Replies are copies of the messages, in order. A unary call has one
	// request, and one reply if it succeeded.
	Requests, Replies []proto.Message
	// Metadata is what the caller sent. It has no entry of the framework.
	Metadata metadata.MD
	// Principal is the name of the calling program, as framework.PrincipalOf returns it.
	Principal string
	// Deadline is when the call times out, zero if it does not.
	Deadline time.Time
	// Ended reports whether the handler has returned, and Err is its error.
	Ended bool
	Err   error
}

// Call is a unary call whose handler, or whose fake, ran.
type Call[Request, Reply any] struct {
	Recorded

	Request *Request
	Reply   *Reply // nil if there was an error, or the handler has not returned
}

// Calls returns the calls of a unary RPC whose handler or fake ran so far, in the order in
// which they began. rpc is a method of a generated client of the kit.
//
//	calls := frameworktest.Calls(kit, auth.CheckPassword)
func Calls[Request, Reply any](kit *Kit, rpc func(context.Context, *Request, ...CallOption) (*Reply, error)) []Call[Request, Reply] {
	kit.tb.Helper()
	var calls []Call[Request, Reply]
	for _, recorded := range kit.Recorded(rpc) {
		call := Call[Request, Reply]{Recorded: recorded}
		call.Request, _ = any(recorded.Requests[0]).(*Request)
		if len(recorded.Replies) > 0 {
			call.Reply, _ = any(recorded.Replies[0]).(*Reply)
		}
		calls = append(calls, call)
	}
	return calls
}

// Recorded returns the calls of an RPC whose handler or fake ran so far, in the order in
// which they began. rpc is as for [Kit.Inject].
func (k *Kit) Recorded(rpc any) []Recorded {
	k.tb.Helper()
	return k.records.of(k.methodOf(rpc).RPC.Method)
}

// records are the calls that the instances of a kit served.
type records struct {
	mu  sync.Mutex // guards the field below, and its elements
	all []*record
}

// record is the record of one call.
type record struct {
	Recorded // of's lock guards it

	of *records
}

// begin begins the record of a call.
func (r *records) begin(ctx context.Context, method string, at *Instance) *record {
	made := &record{of: r, Recorded: Recorded{Method: method, Instance: at, Principal: framework.PrincipalOf(ctx)}}
	if found := contracts().Method(method); found != nil {
		made.RPC = found.RPC.Name
	}
	made.Deadline, _ = ctx.Deadline()
	made.Metadata, _ = metadata.FromIncomingContext(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, made)
	return made
}

// of returns the records of a method.
func (r *records) of(method string) []Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []Recorded
	for _, made := range r.all {
		if made.Method == method {
			copied := made.Recorded
			copied.Requests, copied.Replies = slices.Clone(made.Requests), slices.Clone(made.Replies)
			found = append(found, copied)
		}
	}
	return found
}

func (r *record) received(message any) {
	request := clone(message)
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	r.Requests = append(r.Requests, request)
}

func (r *record) sent(message any) {
	reply := clone(message)
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	r.Replies = append(r.Replies, reply)
}

func (r *record) end(err error) {
	r.of.mu.Lock()
	defer r.of.mu.Unlock()
	r.Ended, r.Err = true, err
}
