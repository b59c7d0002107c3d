package validate

import (
	"context"
	"log/slog"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// NoReplyError says that a handler returned neither a reply nor an error. grpc-go would
// send that as an empty reply. The gRPC code is INTERNAL.
type NoReplyError struct {
	// RPC is the call's bus name, such as "auth.check_password".
	RPC string
}

// Error implements error.
func (e *NoReplyError) Error() string {
	return e.RPC + ": the handler returned neither a reply nor an error: it must return one of them"
}

// GRPCStatus returns the status that a server sends and status.Code reads.
func (e *NoReplyError) GRPCStatus() *status.Status {
	return status.New(codes.Internal, e.Error())
}

// UnaryServerInterceptor checks the requests and replies of methods, whose keys are gRPC's
// paths. A request that breaks rules does not reach the handler. A reply that breaks rules,
// or is nil, is logged and not sent. If refuseUnknown is true, requests with unknown fields
// are refused: see [UnknownFields]. Otherwise they are accepted. Other methods are not
// checked.
func UnaryServerInterceptor(log *slog.Logger, methods map[string]Method, refuseUnknown bool) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		method, ok := methods[info.FullMethod]
		if !ok {
			return handler(ctx, req)
		}
		if err := method.admit(req, refuseUnknown); err != nil {
			return nil, err
		}
		reply, err := handler(ctx, req)
		if err != nil {
			return reply, err
		}
		if err := method.release(ctx, log, reply); err != nil {
			return nil, err
		}
		return reply, nil
	}
}

// admit returns the error of a request, nil if it is valid.
func (m Method) admit(req any, refuseUnknown bool) error {
	if refuseUnknown {
		if message := protoOf(req); message != nil {
			if err := UnknownFields(m.RPC, message); err != nil {
				return err
			}
		}
	}
	return m.CheckRequest(req)
}

// release returns and logs the error of a reply. It returns nil if the reply is valid.
func (m Method) release(ctx context.Context, log *slog.Logger, reply any) error {
	if absent(reply) {
		err := &NoReplyError{RPC: m.RPC}
		log.ErrorContext(ctx, "a handler returned neither a reply nor an error", "rpc", m.RPC)
		return err
	}
	fault := m.checkReply(reply)
	if fault == nil {
		return nil
	}
	fields, rules := fault.named()
	log.ErrorContext(ctx, "a handler's reply breaks the API's rules",
		"rpc", m.RPC,
		"violations", len(fault.Violations),
		"fields", fields,
		"rules", rules)
	return fault
}

// named returns the fields and rules of the first violations for the log, which must
// not contain content of the message.
func (e *Error) named() (fields, rules []string) {
	for _, violation := range e.Violations[:min(maxTold, len(e.Violations))] {
		fields = append(fields, line(withoutSubscripts(violation.Field)))
		rules = append(rules, line(violation.Rule))
	}
	return fields, rules
}

// absent reports whether a reply is nil, or a nil pointer to a message.
func absent(reply any) bool {
	if reply == nil {
		return true
	}
	message := protoOf(reply)
	return message != nil && !message.ProtoReflect().IsValid()
}

// StreamServerInterceptor checks each message of the streams of methods, whose keys are
// gRPC's paths, like [UnaryServerInterceptor]. The first message that breaks rules ends
// the stream, whatever the handler returns: the message neither reaches the handler nor is
// sent, and each later call of SendMsg and RecvMsg returns the same error. If a method has
// no rules and refuseUnknown is false, its streams are not checked, and grpc-go sends their
// nil replies as empty ones.
func StreamServerInterceptor(log *slog.Logger, methods map[string]Method, refuseUnknown bool) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		method, ok := methods[info.FullMethod]
		if !ok || !method.Checks() && !refuseUnknown {
			return handler(srv, stream)
		}
		checked := &serverStream{ServerStream: stream, method: method, log: log, refuseUnknown: refuseUnknown}
		err := handler(srv, checked)
		if fault := checked.fault.get(); fault != nil {
			return fault
		}
		return err
	}
}

// fault is the error that ended a stream. It is safe for concurrent use.
type fault struct{ first atomic.Pointer[error] }

// get returns the error, nil if there is none.
func (f *fault) get() error {
	if err := f.first.Load(); err != nil {
		return *err
	}
	return nil
}

// set sets the error if there is none yet. It returns the error that is set.
func (f *fault) set(err error) error {
	f.first.CompareAndSwap(nil, &err)
	return f.get()
}

// serverStream is a stream whose messages are checked.
type serverStream struct {
	grpc.ServerStream

	method        Method
	log           *slog.Logger
	refuseUnknown bool
	fault         fault
}

// RecvMsg implements [grpc.ServerStream].
func (s *serverStream) RecvMsg(msg any) error {
	if err := s.fault.get(); err != nil {
		return err
	}
	if err := s.ServerStream.RecvMsg(msg); err != nil {
		return err
	}
	if err := s.method.admit(msg, s.refuseUnknown); err != nil {
		return s.fault.set(err)
	}
	return nil
}

// SendMsg implements [grpc.ServerStream].
func (s *serverStream) SendMsg(msg any) error {
	if err := s.fault.get(); err != nil {
		return err
	}
	if err := s.method.release(s.Context(), s.log, msg); err != nil {
		return s.fault.set(err)
	}
	return s.ServerStream.SendMsg(msg)
}
