package framework_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	"github.com/onecall-dev/onecall/telemetry"
)

// lines is a log of JSON whose lines of calls can be read.
type lines struct{ testlog.Log }

// calls returns the lines of calls with a message.
func (l *lines) calls(message string) (all []map[string]any) {
	for text := range strings.Lines(l.String()) {
		line := make(map[string]any)
		if json.Unmarshal([]byte(text), &line) == nil && line["msg"] == message {
			all = append(all, line)
		}
	}
	return all
}

func (l *lines) logger(level slog.Level) framework.Option {
	return framework.Logger(slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: level})))
}

// logged serves e, and returns a client, both with logs of calls.
func logged(t *testing.T, e *echo, level slog.Level) (log *lines, bus *framework.Bus) {
	t.Helper()
	log = new(lines)
	registry := memory.New()
	start(t, registry, e, log.logger(level), framework.LogCalls())
	bus = newBus(t, registry, log.logger(level), framework.LogCalls())
	ready(t, bus, "test.echo")
	return log, bus
}

func TestFailedCallsAreLoggedOnceOnEachSide(t *testing.T) {
	t.Parallel()
	log, bus := logged(t, &echo{echo: func(_ context.Context, text string) (string, error) {
		switch text {
		case "missing":
			return "", status.Error(codes.NotFound, "no such\nthing")
		case "broken":
			return "", status.Error(codes.Internal, "it broke")
		}
		return text, nil
	}}, slog.LevelInfo)
	client := testv1.NewEchoServiceClient(bus)
	for _, text := range []string{"the content of a message", "missing", "broken"} {
		_, _ = client.Echo(t.Context(), &testv1.EchoRequest{Text: text})
	}
	for _, side := range []string{"made a call", "served a call"} {
		eventually.True(t, "lines of both calls", func() bool { return len(log.calls(side)) == 2 })
		missing, broken := log.calls(side)[0], log.calls(side)[1]
		if missing["level"] != "INFO" || missing["rpc"] != "test.echo.echo" || missing["code"] != "NOT_FOUND" || missing["outcome"] != "executed" ||
			!strings.HasSuffix(missing["error"].(string), `no such\nthing`) || missing["took"].(float64) <= 0 {
			t.Errorf("a missing thing was logged as %v", missing)
		}
		if broken["level"] != "WARN" || broken["code"] != "INTERNAL" {
			t.Errorf("a broken service was logged as %v", broken)
		}
		if id, ok := missing["call"].(string); !ok || len(id) != 16 || id != log.calls("made a call")[0]["call"] || id == broken["call"] {
			t.Errorf("the hash of the call is %v", missing["call"])
		}
	}
	if made := log.calls("made a call")[0]; made["attempts"] != 1.0 || !strings.HasPrefix(made["instance"].(string), "127.0.0.1:") {
		t.Errorf("the bus logged %v", made)
	}
	text := log.String()
	if strings.Contains(text, "content of a message") {
		t.Errorf("a message was logged:\n%s", text)
	}
	if identity := regexp.MustCompile(`[\w-]{22}\.[\w-]{22}\.\d`).FindString(text); identity != "" {
		t.Errorf("the identity %s was logged", identity)
	}
}

func TestAllCallsAreLoggedAtDebug(t *testing.T) {
	t.Parallel()
	log, bus := logged(t, &echo{}, slog.LevelDebug)
	for shape, call := range everyShape {
		if err := call(t.Context(), bus, &testv1.WatchRequest{}); err != nil {
			t.Errorf("%s: %v", shape, err)
		}
	}
	_ = bus.Invoke(t.Context(), "no path", nil, nil)
	eventually.True(t, "lines of all calls", func() bool {
		return len(log.calls("made a call")) == len(everyShape)+1 && len(log.calls("served a call")) == len(everyShape)
	})
	for _, line := range log.calls("served a call") {
		if line["level"] != "DEBUG" || line["code"] != "OK" || line["call"] == nil || line["error"] != nil {
			t.Errorf("a call was logged as %v", line)
		}
	}
}

// stuckHandler is the handler of a logger that is stuck until it is released.
type stuckHandler struct {
	slog.Handler

	begun, release chan struct{}
}

func (h stuckHandler) Handle(context.Context, slog.Record) error {
	select {
	case h.begun <- struct{}{}:
	default:
	}
	<-h.release
	return nil
}

// TestACallDoesNotWaitForTheLogger makes more calls than lines can wait.
func TestACallDoesNotWaitForTheLogger(t *testing.T) {
	t.Parallel()
	stuck := stuckHandler{slog.NewTextHandler(new(lines), &slog.HandlerOptions{Level: slog.LevelWarn}), make(chan struct{}, 1), make(chan struct{})}
	registry, metrics := memory.New(), telemetry.New()
	start(t, registry, &echo{echo: func(context.Context, string) (string, error) { return "", status.Error(codes.Internal, "it broke") }})
	bus := newBus(t, registry, framework.Logger(slog.New(stuck)), framework.LogCalls(), framework.Metrics(metrics))
	client := testv1.NewEchoServiceClient(bus)
	call := func() { _, _ = client.Echo(t.Context(), &testv1.EchoRequest{}) }
	call()
	<-stuck.begun
	const queued, more = 1024, 10
	for range queued + more {
		call()
	}
	if got := valuesOf(metrics, telemetry.LogDropped)[""]; got != more {
		t.Errorf("%v lines were dropped, want %d", got, more)
	}
	close(stuck.release)
}

func TestTheLogHasNoSecretsOfRules(t *testing.T) {
	t.Parallel()
	log, registry := new(lines), memory.New()
	serveAny(t, registry, func(apis grpc.ServiceRegistrar) {
		testv1.RegisterRulesServiceServer(apis, testv1.UnimplementedRulesServiceServer{})
	}, log.logger(slog.LevelDebug), framework.LogCalls())
	bus := newBus(t, registry, log.logger(slog.LevelDebug), framework.LogCalls())
	ready(t, bus, "test.rules")
	const secret = "hunter2"
	_, err := testv1.NewRulesServiceClient(bus).Check(t.Context(), &testv1.CheckRequest{Password: secret})
	if status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}
	eventually.True(t, "the line of the call", func() bool { return len(log.calls("made a call")) == 1 })
	if text := log.String(); strings.Contains(text, secret) || !strings.Contains(text, "password") {
		t.Errorf("the log has the secret, or not the field:\n%s", text)
	}
}
