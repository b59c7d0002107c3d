package server

import (
	"context"
	"net"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// calls makes calls that come in, and runs them through the server's half and a
// description as generated code has it, without a wire.
func calls(tb testing.TB, instrumented bool) (call, plain func()) {
	tb.Helper()
	server, err := newServer(Config{Incarnation: discovery.NewIncarnation()}, func() time.Time { return epoch })
	if err != nil {
		tb.Fatal(err)
	}
	reply := new(int)
	type service interface {
		handle(ctx context.Context) (any, error)
	}
	info := &grpc.UnaryServerInfo{FullMethod: "/a.B/C"}
	desc := &grpc.ServiceDesc{ServiceName: "a.B", Methods: []grpc.MethodDesc{{
		MethodName: "C",
		Handler: func(srv any, ctx context.Context, _ func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			return interceptor(ctx, nil, info, func(ctx context.Context, _ any) (any, error) {
				return srv.(service).handle(ctx)
			})
		},
	}}}
	none := grpc.UnaryServerInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return handler(ctx, req)
	})
	admitting := server.UnaryServerInterceptor()
	bare := desc
	if instrumented {
		desc = server.Instrument(desc)
	}
	ctx := peer.NewContext(tb.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}})
	md := metadata.MD{atmostonce.CallKey: {""}, "user-agent": {"x"}, ":authority": {"y"}, "content-type": {"z"}}
	ctx = metadata.NewIncomingContext(ctx, md)
	prefix := atmostonce.Identity{Incarnation: server.config.Incarnation, Session: atmostonce.NewSession(epoch)}.Value()
	prefix = prefix[:len(prefix)-1]
	var seq uint64
	var text []byte
	arrive := func() { // the identity's text is the caller's allocation: one
		seq++
		text = strconv.AppendUint(append(text[:0], prefix...), seq, 10)
		md[atmostonce.CallKey][0] = string(text)
	}
	run := func(desc *grpc.ServiceDesc, interceptor grpc.UnaryServerInterceptor) func() {
		return func() {
			arrive()
			if got, err := desc.Methods[0].Handler(handling{reply}, ctx, nil, interceptor); err != nil || got != reply {
				tb.Fatal(got, err)
			}
		}
	}
	return run(desc, admitting), run(bare, none)
}

type handling struct{ reply *int }

func (h handling) handle(context.Context) (any, error) { return h.reply, nil }

func TestAnAcceptedCallCostsThreeAllocations(t *testing.T) { //nolint:paralleltest // counts all of the process's
	for name, want := range map[string]float64{
		"instrumented":     3, // the call, its reader, its handler
		"not instrumented": 1, // the call
	} {
		t.Run(name, func(t *testing.T) {
			call, plain := calls(t, name == "instrumented")
			call() // begins the session
			if got := testing.AllocsPerRun(1000, call) - testing.AllocsPerRun(1000, plain); got != want {
				t.Errorf("%v allocations, want %v", got, want)
			}
		})
	}
}

// BenchmarkUnary measures what the server's half adds to a unary call in process:
// metadata, identity, principal, admission and the note of the handler's start.
func BenchmarkUnary(b *testing.B) {
	call, plain := calls(b, true)
	for title, run := range map[string]func(){"admitted": call, "plain": plain} {
		b.Run(title, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				run()
			}
		})
	}
}
