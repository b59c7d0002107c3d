package framework_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/fixedport"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func TestTheTextOfAnErrorWithoutAStatusGoesToTheLogAlone(t *testing.T) {
	t.Parallel()
	const secret = "password=hunter2"
	for title, test := range map[string]struct {
		err     error
		code    codes.Code // by default
		exposed codes.Code
		logged  int
	}{
		"an error of a database":          {errors.New(secret), codes.Internal, codes.Unknown, 1},
		"a deadline, in other words":      {fmt.Errorf("%s: %w", secret, context.DeadlineExceeded), codes.DeadlineExceeded, codes.DeadlineExceeded, 0},
		"a canceled context":              {fmt.Errorf("%s: %w", secret, context.Canceled), codes.Canceled, codes.Canceled, 0},
		"a status":                        {status.Error(codes.NotFound, "no such user"), codes.NotFound, codes.NotFound, 0},
		"a status that the handler wraps": {fmt.Errorf("looking it up: %w", status.Error(codes.NotFound, "no such user")), codes.NotFound, codes.NotFound, 0},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			for _, expose := range []bool{false, true} {
				t.Run(fmt.Sprintf("exposed %v", expose), func(t *testing.T) {
					registry, lines := memory.New(), new(testlog.Log)
					options, want := []framework.ServeOption{framework.Logger(lines.Logger())}, test.code
					if expose {
						options, want = append(options, framework.ExposeErrors()), test.exposed
					}
					serve(t, registry, &echo{
						echo:  func(context.Context, string) (string, error) { return "", test.err },
						watch: func(testv1.EchoService_WatchServer) error { return test.err },
					}, options...)
					bus := newBus(t, registry)
					ready(t, bus, "test.echo")
					for _, shape := range []string{"unary", "server streaming"} {
						err := everyShape[shape](t.Context(), bus, &testv1.EchoRequest{})
						if status.Code(err) != want || framework.OutcomeOf(err) != framework.Executed {
							t.Errorf("%s, exposed %v: %v (%v), want %v", shape, expose, err, framework.OutcomeOf(err), want)
						}
						if shows := strings.Contains(err.Error(), secret); shows != (expose && strings.Contains(test.err.Error(), secret)) {
							t.Errorf("%s, exposed %v: %v", shape, expose, err)
						}
					}
					if wanted := 2 * test.logged; !expose && lines.Count(secret) != wanted {
						t.Errorf("the log has the text %d times, want %d", lines.Count(secret), wanted)
					}
				})
			}
		})
	}
}

// TestAnInnerCallsErrorTellsAnOutsiderNoAddressOrName has handlers return the
// errors of their own calls on a bus.
func TestAnInnerCallsErrorTellsAnOutsiderNoAddressOrName(t *testing.T) {
	t.Parallel()
	address := fixedport.Address(t) // nothing listens there
	gone := fixed{discovery.Snapshot{Known: true, Instances: []discovery.Instance{
		{API: "test.echo", Address: address, Incarnation: discovery.NewIncarnation(), Service: "onecall.test.v1.EchoService"},
	}}}
	elsewhere := fixed{discovery.Snapshot{KnownAPIs: []string{"billing_internal"}}}
	unreachable := fixed{discovery.Snapshot{Unreachable: &discovery.UnreachableError{
		Registry: "etcd at http://10.0.0.9:2379", Since: time.Now(), Cause: errors.New("connection refused"),
	}}}
	for title, test := range map[string]struct {
		registry discovery.Registry
		code     codes.Code
		says     string // to the program
	}{
		"nobody listens at an instance's address": {gone, codes.Unavailable, address},
		"the API is unknown":                      {elsewhere, codes.Unimplemented, "billing_internal"},
		"the registry is away":                    {unreachable, codes.Unavailable, "10.0.0.9:2379"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			inner := newBus(t, test.registry)
			registry := memory.New()
			serve(t, registry, &echo{
				echo: func(ctx context.Context, text string) (string, error) {
					_, err := testv1.NewEchoServiceClient(inner).Echo(ctx, &testv1.EchoRequest{})
					if err == nil || !strings.Contains(err.Error(), test.says) {
						t.Errorf("the program has %v, which does not say %q", err, test.says)
					}
					if text == "wrapped" {
						err = fmt.Errorf("looking it up: %w", err)
					}
					return "", err
				},
				watch: func(stream testv1.EchoService_WatchServer) error {
					return everyShape["server streaming"](stream.Context(), inner, &testv1.WatchRequest{})
				},
				ping: func(ctx context.Context, _ string) (string, error) {
					_, err := inner.Call(ctx, "test.echo.echo", framework.Args{"text": "x"})
					return "", err
				},
			})
			_, instance := direct(t, registry)
			conn := dialled(t, instance.Address)
			for way, call := range map[string]func() error{
				"as it is": func() error { return everyShape["unary"](t.Context(), conn, &testv1.EchoRequest{}) },
				"wrapped":  func() error { return everyShape["unary"](t.Context(), conn, &testv1.EchoRequest{Text: "wrapped"}) },
				"a stream": func() error { return everyShape["server streaming"](t.Context(), conn, &testv1.WatchRequest{}) },
				"by name": func() error {
					_, err := testv1.NewPlainServiceClient(conn).Ping(t.Context(), &testv1.PingRequest{})
					return err
				},
			} {
				t.Run(way, func(t *testing.T) {
					err := call()
					message := status.Convert(err).Message()
					if status.Code(err) != test.code {
						t.Errorf("%s: %v, want %v", way, err, test.code)
					}
					for _, secret := range []string{address, "10.0.0.9", "127.0.0.1", "billing_internal", "etcd"} {
						if strings.Contains(message, secret) {
							t.Errorf("%s: an outsider learns %q: %s", way, secret, message)
						}
					}
					if way == "wrapped" && !strings.HasPrefix(message, "looking it up: ") {
						t.Errorf("the handler's own words are gone: %s", message)
					}
				})
			}
		})
	}
}
