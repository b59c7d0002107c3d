package recovery_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/interceptors/recovery"
	"github.com/onecall-dev/onecall/internal/grpctest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// server runs act in each of its handlers.
type server struct {
	testv1.UnimplementedEchoServiceServer

	// act is called by every handler. A stream calls it after the first reply.
	act func() error
}

func (s *server) Echo(_ context.Context, req *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	if err := actInAFunctionWithANameToFind(s.act); err != nil {
		return nil, err
	}
	return &testv1.EchoResponse{Text: req.GetText()}, nil
}

func (s *server) Watch(req *testv1.WatchRequest, stream grpc.ServerStreamingServer[testv1.WatchResponse]) error {
	if err := stream.Send(&testv1.WatchResponse{Text: req.GetText()}); err != nil {
		return err
	}
	return actInAFunctionWithANameToFind(s.act)
}

// actInAFunctionWithANameToFind has a name that is easy to find in the stack of a panic.
func actInAFunctionWithANameToFind(act func() error) error { return act() }

// line is a log line of a panic.
type line struct {
	Level    string `json:"level"`
	Incident string `json:"incident"`
	Method   string `json:"method"`
	Panic    string `json:"panic"`
	Stack    string `json:"stack"`
}

// serve runs a server in memory whose handlers call act. It returns a client and the log
// lines. Call it inside a synctest bubble.
func serve(t *testing.T, act func() error) (testv1.EchoServiceClient, func() []line) {
	t.Helper()
	var written bytes.Buffer // read after the server has stopped
	log := slog.New(slog.NewJSONHandler(&written, nil))
	host := grpc.NewServer(
		grpc.UnaryInterceptor(recovery.UnaryServerInterceptor(log)),
		grpc.StreamInterceptor(recovery.StreamServerInterceptor(log)))
	testv1.RegisterEchoServiceServer(host, &server{act: act})
	return testv1.NewEchoServiceClient(grpctest.Memory(t, host)), func() []line {
		host.GracefulStop()
		var lines []line
		for decoder := json.NewDecoder(&written); ; {
			var read line
			if err := decoder.Decode(&read); errors.Is(err, io.EOF) {
				return lines
			} else if err != nil {
				t.Fatal(err)
			}
			lines = append(lines, read)
		}
	}
}

// shapes are a unary call and a stream. Each returns the error that it ends with.
var shapes = map[string]struct {
	method string
	call   func(t *testing.T, client testv1.EchoServiceClient) error
}{
	"unary": {testv1.EchoService_Echo_FullMethodName, func(t *testing.T, client testv1.EchoServiceClient) error {
		t.Helper()
		reply, err := client.Echo(t.Context(), &testv1.EchoRequest{Text: "hi"})
		if err == nil && reply.GetText() != "hi" {
			t.Errorf("reply = %v", reply)
		}
		return err
	}},
	"stream": {testv1.EchoService_Watch_FullMethodName, func(t *testing.T, client testv1.EchoServiceClient) error {
		t.Helper()
		stream, err := client.Watch(t.Context(), &testv1.WatchRequest{Text: "hi"})
		if err != nil {
			t.Fatal(err)
		}
		if reply, err := stream.Recv(); err != nil || reply.GetText() != "hi" {
			t.Fatalf("the reply before the panic = %v, %v", reply, err)
		}
		_, err = stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}},
}

var told = regexp.MustCompile(`^the handler failed; the server's log has the cause under incident ([A-Z2-7]{26})$`)

func TestAPanicTellsTheCallerAnIncidentAndTheLogTheCause(t *testing.T) {
	t.Parallel()
	causes := map[string]struct {
		act  func() error
		says string
	}{
		"a text":                                 {func() error { panic("the secret is 42") }, "a value of type string"},
		"an error":                               {func() error { panic(errors.New("the secret is 43")) }, "a value of type *errors.errorString"},
		"an error with a status":                 {func() error { panic(status.Error(codes.NotFound, "the secret is 44")) }, "a value of type *status.Error"},
		"nil":                                    {func() error { panic(nil) }, "nil"},
		"a number":                               {func() error { panic(45) }, "a value of type int"},
		"a nil pointer dereference":              {func() error { var nobody *server; return nobody.act() }, "nil pointer dereference"},
		"an index out of range":                  {func() error { none := map[string][]int{}; _ = none["x"][1]; return nil }, "index out of range"},
		"a cause that panics when it is printed": {func() error { panic(unprintable{}) }, "a value of type recovery_test.unprintable"},
		"a message":                              {func() error { panic(&testv1.EchoRequest{Text: "the secret is 47"}) }, "a value of type *testv1.EchoRequest"},
	}
	for title, cause := range causes {
		for shape, made := range shapes {
			t.Run(title+", "+shape, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					client, log := serve(t, cause.act)
					sent := status.Convert(made.call(t, client))
					match := told.FindStringSubmatch(sent.Message())
					if sent.Code() != codes.Internal || match == nil || len(sent.Details()) != 0 {
						t.Fatalf("the caller gets %v, want INTERNAL with an incident and no more", sent)
					}
					lines := log()
					if len(lines) != 1 {
						t.Fatalf("the log has %d lines, want one: %+v", len(lines), lines)
					}
					logged := lines[0]
					if logged.Level != "ERROR" || logged.Incident != match[1] || logged.Method != made.method {
						t.Errorf("the log has %s of incident %q in %s; want ERROR, %q, %s", logged.Level, logged.Incident, logged.Method, match[1], made.method)
					}
					if !strings.Contains(logged.Panic, cause.says) {
						t.Errorf("the log gives the panic as %q, want it to hold %q", logged.Panic, cause.says)
					}
					if strings.Contains(logged.Panic+logged.Stack, "secret") {
						t.Errorf("the log has the panic's value: %+v", logged)
					}
					if !strings.Contains(logged.Stack, "actInAFunctionWithANameToFind") {
						t.Errorf("the stack in the log does not lead to the handler:\n%s", logged.Stack)
					}
				})
			})
		}
	}
}

// unprintable is an error whose Error method panics.
type unprintable struct{}

func (unprintable) Error() string { panic("the secret is 46") }

func TestEveryPanicIsAnIncidentOfItsOwnAndTheServerGoesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, log := serve(t, func() error { panic("again") })
		incidents := make(map[string]bool)
		const calls = 3
		for range calls {
			for _, shape := range shapes {
				incidents[status.Convert(shape.call(t, client)).Message()] = true
			}
		}
		if lines := log(); len(incidents) != calls*len(shapes) || len(lines) != calls*len(shapes) {
			t.Errorf("%d calls give %d incidents and %d lines", calls*len(shapes), len(incidents), len(lines))
		}
	})
}

func TestWithoutAPanicNothingIsChanged(t *testing.T) {
	t.Parallel()
	own := status.Error(codes.NotFound, "no such user")
	for title, returned := range map[string]error{"success": nil, "an error of the handler": own} {
		for shape, made := range shapes {
			t.Run(title+", "+shape, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					client, log := serve(t, func() error { return returned })
					err := made.call(t, client)
					if status.Code(err) != status.Code(returned) || status.Convert(err).Message() != status.Convert(returned).Message() {
						t.Errorf("the caller gets %v, want %v", err, returned)
					}
					if lines := log(); len(lines) != 0 {
						t.Errorf("the log has %+v", lines)
					}
				})
			})
		}
	}
}
