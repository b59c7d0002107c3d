package validate_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/onecall-dev/onecall/interceptors/validate"
	"github.com/onecall-dev/onecall/internal/grpctest"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// service returns the methods of test.rules, by proto name.
func service() protoreflect.MethodDescriptors {
	return testv1.File_onecall_test_v1_rules_proto.Services().ByName("RulesService").Methods()
}

// compiled returns the compiled rules of one method of test.rules.
func compiled(tb testing.TB, name string) validate.Method {
	tb.Helper()
	method, err := validate.Compile("test.rules."+strings.ToLower(name), service().ByName(protoreflect.Name(name)))
	if err != nil {
		tb.Fatal(err)
	}
	return method
}

// methods returns the compiled rules of all methods of test.rules. The keys are gRPC's paths.
func methods(tb testing.TB) map[string]validate.Method {
	tb.Helper()
	all := make(map[string]validate.Method)
	for i := range service().Len() {
		name := string(service().Get(i).Name())
		all["/onecall.test.v1.RulesService/"+name] = compiled(tb, name)
	}
	return all
}

// server calls the functions that a test sets. If a function is nil, the method is
// unimplemented.
type server struct {
	testv1.UnimplementedRulesServiceServer

	check  func(*testv1.CheckRequest) (*testv1.CheckResponse, error)
	order  func(*testv1.OrderRequest) (*testv1.OrderResponse, error)
	keep   func(*testv1.KeepRequest) (*testv1.KeepResponse, error)
	free   func(*testv1.FreeRequest) (*testv1.FreeResponse, error)
	follow func(*testv1.FollowRequest, grpc.ServerStreamingServer[testv1.FollowResponse]) error
	gather func(grpc.ClientStreamingServer[testv1.GatherRequest, testv1.GatherResponse]) error
	haggle func(grpc.BidiStreamingServer[testv1.HaggleRequest, testv1.HaggleResponse]) error
}

func (s *server) Check(_ context.Context, req *testv1.CheckRequest) (*testv1.CheckResponse, error) {
	return s.check(req)
}

func (s *server) Order(_ context.Context, req *testv1.OrderRequest) (*testv1.OrderResponse, error) {
	return s.order(req)
}

func (s *server) Keep(_ context.Context, req *testv1.KeepRequest) (*testv1.KeepResponse, error) {
	return s.keep(req)
}

func (s *server) Free(_ context.Context, req *testv1.FreeRequest) (*testv1.FreeResponse, error) {
	return s.free(req)
}

func (s *server) Follow(req *testv1.FollowRequest, stream grpc.ServerStreamingServer[testv1.FollowResponse]) error {
	return s.follow(req, stream)
}

func (s *server) Gather(stream grpc.ClientStreamingServer[testv1.GatherRequest, testv1.GatherResponse]) error {
	return s.gather(stream)
}

func (s *server) Haggle(stream grpc.BidiStreamingServer[testv1.HaggleRequest, testv1.HaggleResponse]) error {
	return s.haggle(stream)
}

// line is the log line of a bad reply.
type line struct {
	Level      string   `json:"level"`
	Msg        string   `json:"msg"`
	RPC        string   `json:"rpc"`
	Violations int      `json:"violations"`
	Fields     []string `json:"fields"`
	Rules      []string `json:"rules"`
}

// linesOf returns the lines of a JSON log.
func linesOf(tb testing.TB, log *testlog.Log) []line {
	tb.Helper()
	var lines []line
	for decoder := json.NewDecoder(strings.NewReader(log.String())); ; {
		var read line
		if err := decoder.Decode(&read); errors.Is(err, io.EOF) {
			return lines
		} else if err != nil {
			tb.Fatal(err)
		}
		lines = append(lines, read)
	}
}

// serve runs a server in memory that checks every message.
func serve(tb testing.TB, impl *server, refuseUnknown bool) (*grpc.ClientConn, *testlog.Log) {
	tb.Helper()
	log := new(testlog.Log)
	logger := slog.New(slog.NewJSONHandler(log, nil))
	return serveWith(tb, impl,
		grpc.UnaryInterceptor(validate.UnaryServerInterceptor(logger, methods(tb), refuseUnknown)),
		grpc.StreamInterceptor(validate.StreamServerInterceptor(logger, methods(tb), refuseUnknown))), log
}

// serveWith runs a server in memory.
func serveWith(tb testing.TB, impl *server, options ...grpc.ServerOption) *grpc.ClientConn {
	tb.Helper()
	host := grpc.NewServer(options...)
	testv1.RegisterRulesServiceServer(host, impl)
	return grpctest.Memory(tb, host)
}
