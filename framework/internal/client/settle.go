package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/client"
	"github.com/onecall-dev/onecall/interceptors/timeout"
	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schema"
)

// SettleOption is a call option: see framework.SettleWithin.
type SettleOption struct {
	grpc.EmptyCallOption

	// Within is for how long after the deadline of the call it is settled.
	Within time.Duration
}

// Settling returns the option itself, also of a type that embeds it.
func (o SettleOption) Settling() SettleOption { return o }

// Check returns an error if the time is negative.
func (o SettleOption) Check() error {
	if o.Within < 0 {
		return fmt.Errorf("option SettleWithin: %v is less than zero: 0 returns at the deadline", o.Within)
	}
	return nil
}

// settleOption returns the last SettleOption of a call. ok says that there is one.
func settleOption(opts []grpc.CallOption) (last SettleOption, ok bool) {
	for _, opt := range opts {
		if read, is := opt.(interface{ Settling() SettleOption }); is {
			last, ok = read.Settling(), true
		}
	}
	return last, ok
}

// settleLimit returns for how long after its deadline a call is settled.
func (b *Bus) settleLimit(opts []grpc.CallOption) (time.Duration, error) {
	if option, ok := settleOption(opts); ok {
		return option.Within, option.Check()
	}
	return b.options.SettleWithin, nil
}

// replyLimit returns the largest reply that a call may receive with its options, in
// bytes.
func replyLimit(opts []grpc.CallOption) int {
	limit := 4 << 20           // grpc-go's default
	for _, opt := range opts { // the last one counts
		if set, ok := opt.(grpc.MaxRecvMsgSizeCallOption); ok {
			limit = set.MaxRecvMsgSize
		}
	}
	return limit
}

// settleOptions returns the options of a call that also count when its instance is
// asked for the reply: credentials, and the largest reply, with room for the answer
// around it.
func settleOptions(opts []grpc.CallOption, limit int) []grpc.CallOption {
	const room = 64 << 10
	kept := make([]grpc.CallOption, 1, len(opts)+1)
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.MaxRecvMsgSizeCallOption:
			limit = opt.MaxRecvMsgSize
		case grpc.PerRPCCredsCallOption, grpc.AuthorityOverrideCallOption:
			kept = append(kept, opt)
		}
	}
	kept[0] = grpc.MaxCallRecvMsgSize(max(limit, limit+room))
	return kept
}

// settlement returns what is needed to ask what became of the call, nil if no instance
// can be asked. attempt is the last one. Calls of gRPC's own
// services, such as health, are not marked.
func (r *retry) settlement(attempt *client.Attempt, outcome atmostonce.Outcome) *settlement {
	if service, _, _ := contract.SplitMethod(r.route.path); outcome != atmostonce.Unknown || contract.IsBuiltin(service) {
		return nil
	}
	unknown := r.repeats
	if attempt.Outcome() == atmostonce.Unknown {
		r.unknown = attempt
		unknown++
	}
	if r.unknown == nil || r.unknown.Identity().Incarnation.IsZero() {
		return nil
	}
	identity := r.unknown.Identity()
	s := &settlement{
		bus: r.bus, path: r.route.path, rpc: r.route.rpc, rules: r.route.rules, identity: identity,
		at:      askerKey{api: r.route.client.api.name, address: r.unknown.Address(), incarnation: identity.Incarnation},
		several: unknown > 1, shared: r.unknown.Shared(), sent: r.unknown.Made(), stream: r.stream, opts: settleOptions(r.opts, r.bus.options.replyLimit),
	}
	if message, ok := r.reply.(proto.Message); ok {
		s.reply, s.newReply = message.ProtoReflect().Descriptor().FullName(), message.ProtoReflect().Type().New
	}
	return s
}

// settle asks what became of a call whose last attempt failed, if its connection broke
// or there is time for that after the deadline. It returns the failure with what was
// learned, and whether the call has succeeded after all, with reply.
func (r *retry) settle(ctx context.Context, call timeout.Call, attempt *client.Attempt, failed failure, reply any) (failure, bool) {
	if failed.settlement == nil || r.route.idempotent && r.bus.options.Retry >= RetryIdempotent || failed.oversize ||
		!attempt.Settled(failed.err) || errors.Is(ctx.Err(), context.Canceled) || r.bus.closed.Load() {
		return failed, false
	}
	limited, cancel := call.Context(ctx)
	defer cancel()
	within, cancel := r.settleContext(ctx, limited)
	defer cancel()
	if within.Err() != nil {
		return failed, false
	}
	answered := failed.settlement.ask(within, r.notify)
	switch answered.outcome() {
	case atmostonce.Executed:
		attempt.Conclude(atmostonce.Executed)
		message, _ := reply.(proto.Message)
		err, written := answered.end(message)
		if err == nil && message == nil {
			err = errReplyOther
		}
		if err == nil {
			return failed, true
		}
		return failure{rpc: failed.rpc, outcome: atmostonce.Executed, written: written, err: err, address: failed.address}, false
	case atmostonce.Refused:
		attempt.Conclude(atmostonce.Refused)
		failed.outcome = r.outcome(attempt)
		failed.learned = "the instance was asked, and refused the call for good"
	case atmostonce.Unknown, atmostonce.NotSent:
		failed.learned = answered.text()
		failed.forgotten = answered.final
	}
	return failed.passed(limited), false
}

// settleContext returns the context in which a call is settled. limited has the call's
// deadline.
func (r *retry) settleContext(ctx, limited context.Context) (context.Context, context.CancelFunc) {
	if r.within == 0 {
		return context.WithCancel(limited)
	}
	deadline, _ := limited.Deadline()
	extended, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline.Add(r.within))
	stop := context.AfterFunc(ctx, func() {
		if errors.Is(ctx.Err(), context.Canceled) {
			cancel()
		}
	})
	return extended, func() {
		stop()
		cancel()
	}
}

// passed returns the failure of a call whose time has passed while its instance was
// asked.
func (f failure) passed(limited context.Context) failure {
	if limited.Err() == nil || status.Code(f.err) == codes.DeadlineExceeded {
		return f
	}
	if f.first == nil {
		before := f
		f.first = &before
	}
	f.err = status.FromContextError(limited.Err()).Err()
	f.broken = false
	return f
}

// Settle settles a call by hand: see framework.Bus.Settle. reply is a message, a
// *[NamedReply] or nil.
func (b *Bus) Settle(ctx context.Context, err error, reply any) error {
	const name = "onecall: Settle"
	if ctx == nil {
		return callerr.Invalid(name, "the context is nil: give context.Background() if there is no other")
	}
	asked, wrong := settlementOf(name, err)
	if wrong != nil {
		return wrong
	}
	if asked.bus != b {
		return callerr.Invalid(name, "the error is of a call on another bus: settle it there, or hand the call over with CallToken and SettleToken")
	}
	return asked.settle(ctx, err, reply)
}

// NamedReply is the reply of a call by name.
type NamedReply struct {
	RPC     string // the bus name
	Message proto.Message
	Types   schema.Types
}

// settlementOf returns what an error carries. name is the function that needs it.
func settlementOf(name string, err error) (settlement, error) {
	if err == nil {
		return settlement{}, callerr.Invalid(name, "the error is nil: the call succeeded, and its reply is known")
	}
	failed, ok := errors.AsType[*callerr.Error](err)
	var asked settlement
	hides := false
	if ok {
		asked, hides = failed.Hidden().(settlement)
	}
	switch {
	case !ok:
		return settlement{}, callerr.Invalid(name, "the error is not of a call on a bus: give the error that the call returned")
	case callerr.OutcomeOf(failed) != atmostonce.Unknown:
		return settlement{}, callerr.Invalid(name, "the outcome of the call is known: %v", callerr.OutcomeOf(failed))
	case !hides:
		return settlement{}, callerr.Invalid(name, "the error names no instance that could be asked: the call was sent without an identity, or the error is not of the call itself")
	}
	return asked, nil
}

// settle settles a call by hand. before is the error of the call.
func (s *settlement) settle(ctx context.Context, before error, reply any) error {
	message, types, wrong := s.message(ctx, reply)
	if wrong != nil {
		return wrong
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout.Default)
		defer cancel()
	}
	answered := s.ask(ctx, s.bus.options.notify)
	if answered.outcome() == atmostonce.Executed {
		err, written := answered.end(message)
		if err == nil {
			err, written = s.accept(message, types, reply), true
		}
		if err == nil {
			return nil
		}
		return failure{rpc: s.rpc, outcome: atmostonce.Executed, written: written, err: err}.asError()
	}
	return s.unsettled(ctx, before, answered)
}

// accept checks a reply, and stores it if that is to be a *NamedReply.
func (s *settlement) accept(message proto.Message, types schema.Types, reply any) error {
	if message == nil {
		return nil
	}
	if err := s.rules.CheckReply(message); err != nil {
		return err
	}
	if named, ok := reply.(*NamedReply); ok {
		*named = NamedReply{RPC: s.rpc, Message: message, Types: types}
	}
	return nil
}

// message returns the message for the reply of the call, nil if only the outcome is of
// interest. For a *NamedReply it also returns its types.
func (s *settlement) message(ctx context.Context, reply any) (proto.Message, schema.Types, error) {
	if reply == nil {
		return nil, nil, nil
	}
	_, isNamed := reply.(*NamedReply)
	message, isMessage := reply.(proto.Message)
	switch {
	case s.stream:
		return nil, nil, callerr.Invalid(s.rpc, "a stream has no reply that could be kept: give nil to Settle")
	case s.reply == "":
		return nil, nil, callerr.Invalid(s.rpc, "the reply of the call is no protobuf message: give nil to Settle")
	case isNamed:
		return s.namedReply(ctx)
	case !isMessage || isNil(reply):
		return nil, nil, callerr.Invalid(s.rpc, "the reply is a %T: give Settle a pointer to a message, a *framework.Reply, or nil", reply)
	}
	if got := message.ProtoReflect().Descriptor().FullName(); got != s.reply {
		return nil, nil, callerr.Invalid(s.rpc, "the reply is a %s, and the call has the reply %s", got, s.reply)
	}
	return message, nil, nil
}

// namedReply returns a message for a *NamedReply, and its types.
func (s *settlement) namedReply(ctx context.Context) (proto.Message, schema.Types, error) {
	if s.newReply != nil {
		types := schema.Types(protoregistry.GlobalTypes)
		if known, ok := s.bus.knownRPC(s.rpc); ok {
			types = known.types
		}
		return s.newReply().Interface(), types, nil
	}
	found, _, err := s.bus.rpcByName(ctx, s.rpc, false, nil, nil)
	if err != nil { // its outcome is of the question, and not of the call
		text := strings.TrimSuffix(err.Error(), " ("+callerr.OutcomeOf(err).String()+")")
		return nil, nil, s.in(callerr.New(status.Convert(err), atmostonce.Unknown,
			"the instance was not asked what became of the call, because the type of its reply is not known: "+text+" ("+atmostonce.Unknown.String()+")", err))
	}
	return found.newReply(), found.types, nil
}

// unsettled returns the error of a call that did not run, or of which it is still not
// known.
func (s *settlement) unsettled(ctx context.Context, before error, answered answer) error {
	st, text, causes, outcome := status.Convert(before), s.rpc+": asked what became of the call: ", []error{before}, atmostonce.Unknown
	refused := answered.outcome() == atmostonce.Refused
	switch {
	case refused && !s.several:
		outcome = atmostonce.Refused
		text += "the instance has refused it for good"
	case refused:
		text += "the instance has refused its last attempt, but an earlier attempt may have run"
	case answered.final:
		text, causes = text+answered.text(), append(causes, callerr.ErrForgotten)
	case s.bus.closed.Load():
		return callerr.Closed(s.rpc, before)
	case ctx.Err() != nil:
		st = callerr.Briefly(nil, status.FromContextError(ctx.Err()).Code(), s.rpc)
		text, causes = text+answered.text()+": "+ctx.Err().Error(), append(causes, ctx.Err())
	case answered.why == "":
		text += "the instance is older than this question, or no instance of the framework"
	default:
		text += answered.text()
	}
	failed := callerr.New(st, outcome, text+" ("+outcome.String()+")", causes...)
	if outcome == atmostonce.Unknown {
		return s.in(failed)
	}
	return failed
}
