package frameworktest

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/internal/contract"
)

// strikeKey is the metadata that marks an attempt at which a fault is to strike. It reaches
// neither handlers nor the program's interceptors at the service, except those before the
// handler of a fault that strikes there.
const strikeKey = "frameworktest-strike"

// Attempt is an attempt of a call by a bus of the kit. A retry is another attempt.
type Attempt struct {
	// RPC is the bus name, Method gRPC's path.
	RPC, Method string
	// Number is the number of the attempt among those of the RPC since Inject, from 1.
	Number int
	// Request is the request of a unary call, nil for a stream. It must not be changed.
	Request proto.Message
	// Metadata is what the program sends. It must not be changed.
	Metadata metadata.MD
}

// When says at which attempts a fault strikes.
type When struct {
	once    bool
	is      func(Attempt) bool
	mistake string // "" if there is none
}

// Every has a fault strike at each n-th attempt: the n-th, the one n later, and so on.
// Every(1) is each attempt. n must be more than zero.
func Every(n int) When {
	if n < 1 {
		return When{mistake: fmt.Sprintf("Every(%d): give 1 for each attempt, or more", n)}
	}
	return When{is: func(attempt Attempt) bool { return attempt.Number%n == 0 }}
}

// If has a fault strike at each attempt for which a function returns true. It is called from
// the goroutines of the calls.
func If(is func(Attempt) bool) When {
	if is == nil {
		return When{mistake: "If: the function is nil"}
	}
	return When{is: is}
}

// Next has a fault strike once, at the next attempt. It is the default.
func Next() When { return When{once: true, is: func(Attempt) bool { return true }} }

// Injection is a fault that was injected. Its methods are safe for all goroutines.
type Injection struct {
	kit    *Kit
	fault  Fault
	method *contract.Method
	when   When

	mu       sync.Mutex // guards the fields below
	attempts int
	used     bool // by an attempt, if it strikes once
	struck   int
}

// Inject makes calls of an RPC fail, by all buses and connections of the kit: the next
// attempt, or those that when says. rpc is a method of a generated client of the kit, a bus
// name such as "auth.check_password", or gRPC's path. Of several faults for one attempt, the
// one that was injected first strikes.
//
// A fault that has not struck when the test ends fails the test. If the kit's connections
// are encrypted, only RefusedBefore, Panic and RegistryAway can strike.
//
//	auth := authv1.NewAuthServiceClient(kit)
//	kit.Inject(auth.ResetPassword, frameworktest.ReplyLost())
func (k *Kit) Inject(rpc any, fault Fault, when ...When) *Injection {
	k.tb.Helper()
	if len(when) > 1 {
		k.tb.Fatal("frameworktest: Inject takes one When: inject the fault once for each")
	}
	i := &Injection{kit: k, fault: fault, method: k.methodOf(rpc), when: Next()}
	if len(when) == 1 {
		i.when = when[0]
	}
	switch {
	case fault.name == "":
		k.tb.Fatal("frameworktest: Inject: there is no fault: give one such as ReplyLost()")
	case fault.atHandler && fault.handle == nil && fault.refuse == codes.OK:
		k.tb.Fatal("frameworktest: RefusedBefore(OK): give the code of an error")
	case i.when.is == nil:
		k.tb.Fatalf("frameworktest: Inject: %s", cmp.Or(i.when.mistake, "the When is empty: give Next, Every or If"))
	}
	k.strikes.mu.Lock()
	defer k.strikes.mu.Unlock()
	k.strikes.injections = append(k.strikes.injections, i)
	return i
}

// Struck returns at how many attempts the fault has struck.
func (i *Injection) Struck() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.struck
}

// wants counts an attempt, and reports whether the fault is to strike at it.
func (i *Injection) wants(attempt Attempt) bool {
	i.mu.Lock()
	i.attempts++
	attempt.RPC, attempt.Method, attempt.Number = i.method.RPC.Name, i.method.RPC.Method, i.attempts
	used := i.used
	i.mu.Unlock()
	if used || !i.when.is(attempt) {
		return false
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.when.once && i.used {
		return false
	}
	i.used = i.when.once
	return true
}

// strike is the strike of a fault at one attempt.
type strike struct {
	*Injection

	id     string
	stream bool

	mu   sync.Mutex // guards the fields below
	done bool
	// header and to are the headers with which the attempt was sent, and where.
	header []hpack.HeaderField
	to     *generation
}

// strikes notes that the fault has struck, and reports whether that is new.
func (s *strike) strikes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return false
	}
	s.done = true
	s.Injection.mu.Lock()
	defer s.Injection.mu.Unlock()
	s.struck++
	return true
}

// sent notes where the attempt was sent.
func (s *strike) sent(header []hpack.HeaderField, to *generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header, s.to = slices.Clone(header), to
}

// ended ends the strike with its attempt. If the fault has not struck, it is to strike at
// another one.
func (s *strike) ended() {
	s.kit.strikes.pending.Delete(s.id)
	if s.fault.away {
		s.kit.registry.Back()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		s.Injection.mu.Lock()
		defer s.Injection.mu.Unlock()
		s.used = false
	}
}

// strikes has the faults of a kit.
type strikes struct {
	kit       *Kit
	encrypted atomic.Bool // whether a connection is
	last      atomic.Uint64
	pending   sync.Map // of *strike, by id

	mu         sync.Mutex // guards the field below
	injections []*Injection
}

// find returns the strike with an id, nil if there is none.
func (s *strikes) find(id string) *strike {
	found, _ := s.pending.Load(id)
	struck, _ := found.(*strike)
	return struck
}

// choose returns the strike at an attempt, nil if there is none.
func (s *strikes) choose(ctx context.Context, method string, request any, stream bool) *strike {
	s.mu.Lock()
	injections := s.injections
	s.mu.Unlock()
	for _, i := range injections {
		if i.method.RPC.Method != method {
			continue
		}
		attempt := Attempt{}
		attempt.Request, _ = request.(proto.Message)
		attempt.Metadata, _ = metadata.FromOutgoingContext(ctx)
		if i.wants(attempt) {
			chosen := &strike{Injection: i, id: strconv.FormatUint(s.last.Add(1), 10), stream: stream}
			s.pending.Store(chosen.id, chosen)
			return chosen
		}
	}
	return nil
}

// begin prepares an attempt for a strike, and returns its context.
func (s *strike) begin(ctx context.Context) context.Context {
	if s.fault.away {
		s.strikes()
		s.kit.registry.Away()
	}
	return metadata.AppendToOutgoingContext(ctx, strikeKey, s.id)
}

// unary is the kit's interceptor of unary calls of a bus.
func (s *strikes) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if struck := s.choose(ctx, method, req, false); struck != nil {
		ctx = struck.begin(ctx)
		defer struck.ended()
	}
	return invoker(ctx, method, req, reply, cc, opts...)
}

// stream is the kit's interceptor of streams of a bus.
func (s *strikes) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	struck := s.choose(ctx, method, nil, true)
	if struck == nil {
		return streamer(ctx, desc, cc, method, opts...)
	}
	ended := sync.OnceFunc(struck.ended)
	opened, err := streamer(struck.begin(ctx), desc, cc, method, append(slices.Clone(opts), grpc.OnFinish(func(error) { ended() }))...)
	if err != nil {
		ended()
	}
	return opened, err
}

// at returns the strike at a call that an instance serves, nil if there is none.
func (s *strikes) at(ctx context.Context) *strike {
	values := metadata.ValueFromIncomingContext(ctx, strikeKey)
	if len(values) == 0 {
		return nil
	}
	return s.find(values[0])
}

// refuse refuses a call if a fault says so.
func (s *strikes) refuse(ctx context.Context) error {
	struck := s.at(ctx)
	if struck == nil || struck.fault.refuse == codes.OK {
		return nil
	}
	struck.strikes()
	return status.Error(struck.fault.refuse, "the test refuses the call: fault "+struck.fault.name)
}

// refuseUnary and refuseStream run after admission.
func (s *strikes) refuseUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := s.refuse(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (s *strikes) refuseStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := s.refuse(stream.Context()); err != nil {
		return err
	}
	return handler(srv, stream)
}

// close fails the test if a fault never struck.
func (s *strikes) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.injections {
		if i.Struck() > 0 {
			continue
		}
		why := "no call of it was sent"
		if s.encrypted.Load() {
			why += ", or its connection is encrypted"
		}
		s.kit.tb.Errorf("frameworktest: fault %s of %s never struck: %s", i.fault, i.method.RPC.Name, why)
	}
}

var _ fmt.Stringer = Fault{}
