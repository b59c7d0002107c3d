package inprocess

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
)

// Server serves calls of this process as a grpc.Server does those of its connections. Its
// methods are safe for all goroutines, once all services are registered.
type Server struct {
	unary         map[string]unaryMethod
	streams       map[string]streamMethod
	codec         encoding.CodecV2
	plainCodec    bool // whether codec is grpc-go's own
	aroundUnary   grpc.UnaryServerInterceptor
	aroundStream  grpc.StreamServerInterceptor
	mostReceived  int // the largest request, in bytes
	mostSent      int // the largest reply, in bytes
	mostMetadata  uint32
	perConnection int64 // how many calls of a connection may be under way

	running atomic.Int64
	// closing is whether no more calls begin. When the last one has ended, idle and work are
	// closed.
	closing atomic.Bool
	idle    chan struct{}
	close   sync.Once
	// work has the calls for workers that wait, which are counted in waiting.
	work    chan *Unary
	waiting atomic.Int64
	// timers are those of deadlines at the callers.
	timers sync.Pool
	// life ends with [Server.Stop].
	life context.Context //nolint:containedctx // of a running thing
	end  context.CancelFunc
}

type unaryMethod struct {
	handler grpc.MethodHandler
	impl    any
}

type streamMethod struct {
	desc grpc.StreamDesc
	impl any
}

// ofTransport are the options of a grpc.Server that only its connections can honour.
var ofTransport = []string{"codec", "cp", "dc", "binaryLogger", "inTapHandle", "statsHandlers", "streamWrapper"}

// NewServer returns a server with the options of a grpc.Server. grpc-go has no methods for
// them, so they are read by reflection. The error says why calls must go over the network:
// options that only connections honour, or a version of grpc-go with other fields.
func NewServer(server *grpc.Server) (*Server, error) {
	options := reflect.ValueOf(server).Elem().FieldByName("opts")
	if options.Kind() != reflect.Struct {
		return nil, errors.New("this version of grpc-go keeps its options elsewhere")
	}
	for _, name := range ofTransport {
		set, known := IsSet(options.FieldByName(name))
		switch {
		case !known:
			return nil, fmt.Errorf("this version of grpc-go has no option %s", name)
		case set:
			return nil, fmt.Errorf("its server has the option %s, which needs a connection", name)
		}
	}
	s := &Server{unary: make(map[string]unaryMethod), streams: make(map[string]streamMethod), codec: encoding.GetCodecV2(proto.Name), idle: make(chan struct{}), work: make(chan *Unary)}
	var streams uint32
	var metadata *uint32
	if !read(options, "unaryInt", &s.aroundUnary) || !read(options, "streamInt", &s.aroundStream) ||
		!read(options, "maxReceiveMessageSize", &s.mostReceived) || !read(options, "maxSendMessageSize", &s.mostSent) ||
		!read(options, "maxConcurrentStreams", &streams) || !read(options, "maxHeaderListSize", &metadata) {
		return nil, errors.New("this version of grpc-go has other options")
	}
	if s.codec == nil {
		return nil, errors.New("the program has registered a codec of its own for protobuf")
	}
	if !readable() {
		return nil, errors.New("this version of grpc-go keeps the values of a call elsewhere")
	}
	s.plainCodec = isOfGRPC(s.codec)
	s.perConnection, s.mostMetadata = int64(streams), grpcMetadata
	if metadata != nil {
		s.mostMetadata = *metadata
	}
	s.life, s.end = context.WithCancel(context.Background())
	return s, nil
}

// grpcMetadata is grpc-go's limit of metadata without an option, in bytes.
const grpcMetadata = 8 << 10

// IsSet reports whether a field of grpc-go's options is set. known is false if there is no such
// field.
func IsSet(option reflect.Value) (set, known bool) {
	switch option.Kind() {
	case reflect.Func, reflect.Interface, reflect.Pointer:
		return !option.IsNil(), true
	case reflect.Slice:
		return option.Len() > 0, true
	default:
		return false, false
	}
}

// read reads an option, and reports whether there is one of that name and type.
func read[T any](options reflect.Value, name string, to *T) bool {
	field := options.FieldByName(name)
	if !field.IsValid() || field.Type() != reflect.TypeFor[T]() || !field.CanAddr() {
		return false
	}
	value, ok := reflect.TypeAssert[*T](reflect.NewAt(field.Type(), field.Addr().UnsafePointer()))
	if ok {
		*to = *value
	}
	return ok
}

// Register adds a service, as it is registered at the grpc.Server. Call it before the
// server takes an offer.
func (s *Server) Register(desc *grpc.ServiceDesc, impl any) {
	if s == nil {
		return
	}
	for _, method := range desc.Methods {
		s.unary["/"+desc.ServiceName+"/"+method.MethodName] = unaryMethod{handler: method.Handler, impl: impl}
	}
	for _, stream := range desc.Streams {
		s.streams["/"+desc.ServiceName+"/"+stream.StreamName] = streamMethod{desc: stream, impl: impl}
	}
}

// begin counts a call until done. It returns false if none may begin.
func (s *Server) begin() bool {
	s.running.Add(1)
	if s.closing.Load() {
		s.done()
		return false
	}
	return true
}

// done counts the end of a call.
func (s *Server) done() {
	if s.running.Add(-1) == 0 && s.closing.Load() {
		s.ended()
	}
}

// ended notes that all calls have ended and none will begin.
func (s *Server) ended() {
	s.close.Do(func() {
		close(s.idle)
		close(s.work)
	})
}

// Close has no more calls begin.
func (s *Server) Close() {
	if s == nil {
		return
	}
	s.closing.Store(true)
	if s.running.Load() == 0 {
		s.ended()
	}
}

// Wait waits until all calls have ended, after [Server.Close].
func (s *Server) Wait() {
	if s != nil {
		<-s.idle
	}
}

// mostWaiting is how many workers wait for a call. A new goroutine must grow its stack
// first, so a worker that has served a call serves others.
const mostWaiting = 64

// serve serves a unary call on another goroutine.
func (s *Server) serve(u *Unary) {
	select {
	case s.work <- u:
	default:
		go s.worker(u)
	}
}

// worker serves a call, and then others.
func (s *Server) worker(u *Unary) {
	pprof.SetGoroutineLabels(context.Background()) // the caller's are not the handler's
	for ok := true; ok; {
		u.serve()
		if s.waiting.Add(1) > mostWaiting {
			s.waiting.Add(-1)
			return
		}
		u, ok = <-s.work
		s.waiting.Add(-1)
	}
}

// startTimer returns a timer that ends after d. Stop it with stopTimer.
func (s *Server) startTimer(d time.Duration) *time.Timer {
	timer, ok := s.timers.Get().(*time.Timer)
	if !ok {
		return time.NewTimer(d)
	}
	timer.Reset(d)
	return timer
}

// stopTimer stops a timer. Another call uses it unless it has ended, for then its channel may
// have a value.
func (s *Server) stopTimer(timer *time.Timer) {
	if timer.Stop() {
		s.timers.Put(timer)
	}
}

// Stop has no more calls begin, and ends those under way as the loss of their connection
// would: the contexts of their handlers end, and their callers do not wait for them.
func (s *Server) Stop() {
	if s != nil {
		s.Close()
		s.end()
	}
}
