package frameworktest

import (
	"fmt"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
)

// Fault is a way in which a call fails: see [Kit.Inject]. Each strikes one attempt: if the
// bus retries the call, the next attempt is another one.
type Fault struct {
	name string
	// request and reply are called with each frame of the stream, before it is forwarded.
	request, reply func(*stream, http2.Frame)
	// atHandler says that the fault strikes at the instance. refuse is the code with which
	// it refuses the call before its handler, OK if it does not; handle is called by the
	// handler.
	atHandler bool
	refuse    codes.Code
	handle    func(*strike, serving)
	// away says that the registry is unreachable during the call.
	away bool
}

// String returns the name of the fault.
func (f Fault) String() string { return f.name }

// ReplyLost has the handler run, and its reply get lost. The instance does not know what
// became of the call, as one that has ended. The call ends Unknown with UNAVAILABLE and
// [framework.ErrForgotten], and its handler ran once. A stream breaks at its first reply.
//
// An RPC that declares that it may run more than once is retried by the bus. With [Every](1)
// the fault strikes at all its attempts.
func ReplyLost() Fault {
	f := lostReply("ReplyLost")
	lose := f.reply
	f.reply = func(s *stream, frame http2.Frame) {
		s.forget()
		lose(s, frame)
	}
	return f
}

// ReplySettled has the handler run, and its reply get lost on its way. The bus asks the
// instance for it. So a unary call ends as it would have without the fault, and its handler
// ran once. A stream breaks at its first reply, and ends Unknown until it is settled by
// hand.
func ReplySettled() Fault { return lostReply("ReplySettled") }

func lostReply(name string) Fault {
	return Fault{name: name, reply: func(s *stream, frame http2.Frame) {
		s.replies.end()
		if !s.isWhole(frame) || !s.strike.strikes() {
			return
		}
		if s.strike.stream { // as when a connection ends
			s.link.server.reset(s.id)
		}
		s.lose()
	}}
}

// RequestLost has the request get lost. The instance does not say that it never had it. The
// call ends Unknown with UNAVAILABLE and [framework.ErrForgotten], and its handler did not
// run. An RPC that declares that it may run more than once is retried: see [ReplyLost].
func RequestLost() Fault {
	f := lostRequest("RequestLost")
	lose := f.request
	f.request = func(s *stream, frame http2.Frame) {
		s.forget()
		lose(s, frame)
	}
	return f
}

// RequestSettled has the request get lost on its way. The bus asks the instance, which has
// not seen it and refuses it for good. So the bus sends a unary call again, and its handler
// runs once. A stream ends Unknown until it is settled by hand.
func RequestSettled() Fault { return lostRequest("RequestSettled") }

func lostRequest(name string) Fault {
	return Fault{name: name, request: func(s *stream, frame http2.Frame) {
		s.requests.end()
		if s.isWhole(frame) && s.strike.strikes() {
			s.lose()
		}
	}}
}

// RefusedBefore has the instance refuse the call before its handler, with a code. The call
// ends Refused with that code, and its handler did not run. After UNAVAILABLE,
// RESOURCE_EXHAUSTED and UNIMPLEMENTED the bus retries it, because another instance may
// accept it. The code must not be OK.
func RefusedBefore(code codes.Code) Fault {
	return Fault{name: fmt.Sprintf("RefusedBefore(%v)", code), atHandler: true, refuse: code}
}

// Slow has the reply of the handler arrive later by a time. If the deadline of the call
// passes before, the call ends Unknown with DEADLINE_EXCEEDED, and can be settled by hand.
func Slow(by time.Duration) Fault {
	return Fault{name: fmt.Sprintf("Slow(%v)", by), reply: func(s *stream, _ http2.Frame) {
		if s.strike.strikes() {
			s.delay(by)
		}
	}}
}

// Frozen freezes the instance for a time, when the request arrives: nothing reaches it and
// nothing leaves it, on any connection. Then it goes on. The call ends as it does after
// [Slow].
func Frozen(length time.Duration) Fault {
	return Fault{name: fmt.Sprintf("Frozen(%v)", length), request: func(s *stream, _ http2.Frame) {
		if s.strike.strikes() {
			s.link.generation.gate.close(length)
			s.link.generation.gate.pass(s.link.closed)
		}
	}}
}

// RestartBetween restarts the instance between the end of the handler and its reply. The
// call ends Unknown with UNAVAILABLE and [framework.ErrForgotten], and its handler ran
// once. Later calls reach the instance that has replaced it, with what New or Serve has
// registered again. A stream breaks at its first reply.
func RestartBetween() Fault {
	return Fault{name: "RestartBetween", reply: func(s *stream, frame http2.Frame) {
		s.replies.end()
		if s.isWhole(frame) && s.strike.strikes() {
			s.elsewhere(s.link.generation.instance.Restart)
		}
	}}
}

// InstanceGone ends the instance for good while the request is on its way, and removes it
// from the registry. The call ends Unknown with UNAVAILABLE and [framework.ErrForgotten],
// and its handler did not run. Later calls reach another instance, or end NotSent with
// UNAVAILABLE if there is none.
func InstanceGone() Fault {
	return Fault{name: "InstanceGone", request: func(s *stream, frame http2.Frame) {
		s.requests.end()
		if s.isWhole(frame) && s.strike.strikes() {
			s.elsewhere(func() {
				s.link.generation.expire()
				s.link.generation.kill()
			})
		}
	}}
}

// Draining has the instance begin its shutdown while the request is on its way, as in a
// rolling restart: before that, an instance that is like it is started at another address.
// The instance refuses the call, and the bus retries it at the other one. So the call ends
// as it would have without the fault, and its handler ran once.
func Draining() Fault {
	return Fault{name: "Draining", request: func(s *stream, _ http2.Frame) {
		if !s.strike.strikes() {
			return
		}
		s.requests.hold()
		old := s.link.generation
		s.elsewhere(func() {
			kit := old.instance.kit
			next := &Instance{kit: kit, register: old.instance.register, options: old.instance.options, address: kit.network.newAddress()}
			if err := next.start(); err != nil {
				kit.tb.Errorf("frameworktest: fault Draining: the other instance cannot be started: %v", err)
				s.release()
				return
			}
			kit.mu.Lock()
			kit.instances = append(kit.instances, next)
			kit.mu.Unlock()
			_ = old.stop() // a test that wants its error calls Instance.Stop
		})
	}}
}

// Duplicated has a copy of the request arrive while the handler runs, with the same
// identity. The instance refuses the copy. So the call ends as it would have without the
// fault, and its handler ran once. If the copy is not refused, the test fails.
func Duplicated() Fault {
	return Fault{name: "Duplicated", atHandler: true, handle: (*strike).duplicate}
}

// Panic has the handler panic before it does anything. The call ends Executed with INTERNAL.
func Panic() Fault {
	return Fault{name: "Panic", atHandler: true, handle: func(s *strike, _ serving) {
		s.strikes()
		panic("frameworktest: fault Panic")
	}}
}

// RegistryAway makes the registry unreachable from before the call is sent until it has
// ended. The bus knows the instances. So the call ends as it would have without the fault.
// [Registry.Away] makes the registry unreachable for longer.
func RegistryAway() Fault { return Fault{name: "RegistryAway", away: true} }
