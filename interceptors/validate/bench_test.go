package validate_test

import (
	"context"
	"log/slog"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/interceptors/validate"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func BenchmarkCheckRequest(b *testing.B) {
	large := fine()
	for range 100 {
		large.Items = append(large.Items, &testv1.OrderItem{Name: "tea", Price: 1})
	}
	for _, bench := range []struct {
		title, method string
		req           proto.Message
	}{
		{"simple rules", "Check", &testv1.CheckRequest{Username: "admin", Password: "correct horse"}},
		{"no rules", "Free", &testv1.FreeRequest{Text: "admin"}},
		{"lists, maps and an expression", "Order", fine()},
		{"the same with 100 items", "Order", large},
		{"a stream's message", "Haggle", &testv1.HaggleRequest{Price: 1}},
	} {
		b.Run(bench.title, func(b *testing.B) {
			method := compiled(b, bench.method)
			b.ReportAllocs()
			for b.Loop() {
				if err := method.CheckRequest(bench.req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBadRequest measures requests that break rules. The sender chooses their cost,
// within bounds.
func BenchmarkBadRequest(b *testing.B) {
	for _, bench := range []struct {
		title, method string
		req           proto.Message
	}{
		{"two violations", "Check", &testv1.CheckRequest{}},
		{"a thousand violations", "Sum", &testv1.SumRequest{Numbers: make([]int32, 1000)}},
		{"four million violations", "Sum", &testv1.SumRequest{Numbers: make([]int32, 4<<20)}},
	} {
		b.Run(bench.title, func(b *testing.B) {
			method := compiled(b, bench.method)
			b.ReportAllocs()
			for b.Loop() {
				if err := method.CheckRequest(bench.req); err == nil {
					b.Fatal("no error")
				}
			}
		})
	}
}

// BenchmarkCompile measures compiling, which happens at the start, one time for each API.
func BenchmarkCompile(b *testing.B) {
	for _, bench := range []struct{ title, method string }{
		{"simple rules", "Check"}, {"no rules", "Free"}, {"expressions", "Keep"},
	} {
		b.Run(bench.title, func(b *testing.B) {
			for b.Loop() {
				if _, err := validate.NewCompiler(protoregistry.GlobalTypes).Compile("a.b", service().ByName(protoreflect.Name(bench.method))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCall compares calls with and without checks. Client and server are in one
// process.
func BenchmarkCall(b *testing.B) {
	impl := &server{check: func(*testv1.CheckRequest) (*testv1.CheckResponse, error) {
		return &testv1.CheckResponse{Valid: true}, nil
	}}
	logger := slog.New(slog.DiscardHandler)
	for _, bench := range []struct {
		title   string
		checked bool
	}{{"unchecked", false}, {"checked at both sides", true}} {
		b.Run(bench.title, func(b *testing.B) {
			var options []grpc.ServerOption
			method := validate.Method{}
			if bench.checked {
				method = compiled(b, "Check")
				options = append(options, grpc.UnaryInterceptor(validate.UnaryServerInterceptor(logger, methods(b), false)))
			}
			client := testv1.NewRulesServiceClient(serveWith(b, impl, options...))
			b.ReportAllocs()
			for b.Loop() {
				req := &testv1.CheckRequest{Username: "admin", Password: "correct horse"}
				if err := method.CheckRequest(req); err != nil {
					b.Fatal(err)
				}
				reply, err := client.Check(context.Background(), req)
				if err != nil {
					b.Fatal(err)
				}
				if err := method.CheckReply(reply); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
