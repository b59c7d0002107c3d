package inprocess

import (
	"math"
	"reflect"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// grpcMessage is grpc-go's limit of replies without an option, in bytes.
const grpcMessage = 4 << 20

// limits are the sizes in bytes that the options of a call allow its messages.
type limits struct{ sent, received int }

// limitsOf returns the limits of a call. ok is false if it has an option that only a
// connection can honour.
func limitsOf(opts []grpc.CallOption) (l limits, ok bool) {
	l = limits{sent: math.MaxInt32, received: grpcMessage}
	for _, opt := range opts { // the last one counts
		switch opt := opt.(type) {
		case grpc.MaxSendMsgSizeCallOption:
			l.sent = opt.MaxSendMsgSize
		case grpc.MaxRecvMsgSizeCallOption:
			l.received = opt.MaxRecvMsgSize
		case grpc.EmptyCallOption, grpc.HeaderCallOption, grpc.TrailerCallOption, grpc.PeerCallOption, grpc.OnFinishCallOption,
			grpc.FailFastCallOption, grpc.StaticMethodCallOption, grpc.MaxRetryRPCBufferSizeCallOption:
		default:
			if !doesNothing(reflect.TypeOf(opt)) {
				return l, false
			}
		}
	}
	return l, true
}

var (
	emptyOption  = reflect.TypeFor[grpc.EmptyCallOption]()
	callOption   = reflect.TypeFor[grpc.CallOption]()
	known        sync.Map // of bool: what doesNothing returned, by the type
	packageOfAll = emptyOption.PkgPath()
)

// doesNothing reports whether a call option of another package means nothing to grpc-go: it
// embeds [grpc.EmptyCallOption] and no other option.
func doesNothing(of reflect.Type) bool {
	if found, ok := known.Load(of); ok {
		return found == true
	}
	found := embedsEmpty(of)
	known.Store(of, found)
	return found
}

func embedsEmpty(of reflect.Type) bool {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if of == emptyOption {
		return true
	}
	if of.Kind() != reflect.Struct || of.PkgPath() == packageOfAll {
		return false
	}
	found := false
	for field := range of.Fields() {
		if !field.Anonymous || !field.Type.Implements(callOption) {
			continue
		}
		if !embedsEmpty(field.Type) {
			return false
		}
		found = true
	}
	return found
}

// fill fills what the options of a call receive when it has ended.
func fill(opts []grpc.CallOption, header, trailer func() metadata.MD, from *peer.Peer) {
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			*opt.HeaderAddr = header()
		case grpc.TrailerCallOption:
			*opt.TrailerAddr = trailer()
		case grpc.PeerCallOption:
			*opt.PeerAddr = *from
		}
	}
}

// finished calls the functions of a call's options that are called at its end.
func finished(opts []grpc.CallOption, err error) {
	for _, opt := range opts {
		if opt, ok := opt.(grpc.OnFinishCallOption); ok {
			opt.OnFinish(err)
		}
	}
}
