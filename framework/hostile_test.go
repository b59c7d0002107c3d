package framework_test

import (
	"math"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestTextFromOutsideIsShortAndPrintableInErrors is about a program that forwards names,
// paths and values from outside.
func TestTextFromOutsideIsShortAndPrintableInErrors(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveAny(t, registry, func(apis grpc.ServiceRegistrar) {
		testv1.RegisterKindsServiceServer(apis, kinds{})
		testv1.RegisterEchoServiceServer(apis, &echo{})
		testv1.RegisterRulesServiceServer(apis, testv1.UnimplementedRulesServiceServer{})
	})
	bus := newBus(t, registry)
	ready(t, bus, "test.kinds", "test.echo", "test.rules")
	for kind, bad := range map[string]string{
		"long":               strings.Repeat("long", 5000),
		"control characters": "a\x1b[31m\nb\r\x00c\u202e\u0085",
		"invalid UTF-8":      "a\xff\xfe" + strings.Repeat("\x80", 500),
		"all of it":          strings.Repeat("\x1b]0;\xff\n", 5000),
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			byName := func(name string, args framework.Args) func() error {
				return func() error {
					_, err := bus.Call(t.Context(), name, args)
					return err
				}
			}
			mirror := func(kinds framework.Args) func() error {
				return byName("test.kinds.mirror", framework.Args{"kinds": kinds})
			}
			typed := func(path string) func() error {
				return func() error { return bus.Invoke(t.Context(), path, &emptypb.Empty{}, &emptypb.Empty{}) }
			}
			for title, call := range map[string]func() error{
				"the name of an RPC":         byName(bad, nil),
				"an API by name":             byName(bad+".do", nil),
				"an RPC of an API":           byName("test.kinds."+bad, nil),
				"a good API and a long RPC":  byName("test.kinds."+strings.Repeat("do_it", 40), nil),
				"a parameter":                byName("test.kinds.sign_in", framework.Args{bad: 1}),
				"many parameters":            byName("test.kinds.sign_in", framework.Args{bad + "1": 1, bad + "2": 1, bad + "3": bad}),
				"a value of another type":    byName("test.kinds.count", framework.Args{"words": bad}),
				"a value":                    byName("test.kinds.sign_in", framework.Args{"username": bad + "\xff", "password": bad + "\xff"}),
				"a name of an enum":          mirror(framework.Args{"mood": bad}),
				"a number":                   mirror(framework.Args{"item": framework.Args{"name": "x", "price": bad}}),
				"a key":                      mirror(framework.Args{"maps": map[string]any{"values": map[string]any{bad: math.NaN()}}}),
				"a key that is no number":    mirror(framework.Args{"maps": map[string]any{"int32_keys": map[string]any{bad: bad}}}),
				"a field of a message":       mirror(framework.Args{"item": map[string]any{bad: 1}}),
				"a path of a mask":           mirror(framework.Args{"well_known": map[string]any{"field_mask": []string{bad, "\xff"}}}),
				"a typed mask":               mirror(framework.Args{"well_known": map[string]any{"field_mask": &fieldmaskpb.FieldMask{Paths: []string{bad + "\xff"}}}}),
				"the type of an Any":         mirror(framework.Args{"well_known": map[string]any{"anything": map[string]any{"@type": bad}}}),
				"a value that breaks a rule": byName("test.rules.order", framework.Args{"customer": "x", "labels": map[string]string{strings.ToValidUTF8(bad, "?"): strings.ToValidUTF8(bad, "?") + "123456789"}}),
				"a path":                     typed(bad),
				"a service":                  typed("/" + bad + "/Do"),
				"a method":                   typed("/onecall.test.v1.EchoService/" + strings.ReplaceAll(bad, "/", "")),
				"a method of gRPC's own": func() error {
					conn, err := framework.Dial(registry, "test.echo", quiet)
					if err != nil {
						return err
					}
					defer conn.Close()
					return conn.Invoke(t.Context(), "/grpc.health.v1.Health/"+bad, &emptypb.Empty{}, &emptypb.Empty{})
				},
				"a nil context":       func() error { return bus.Invoke(nil, bad, &emptypb.Empty{}, &emptypb.Empty{}) }, //nolint:staticcheck // what the test is of
				"an API to describe":  func() error { _, err := bus.Describe(t.Context(), bad); return err },
				"an API to dial":      func() error { _, err := framework.Dial(registry, bad, quiet); return err },
				"an API to wait for":  func() error { return bus.Ready(t.Context(), bad) },
				"a service of gRPC's": func() error { return bus.Ready(t.Context(), "test.echo", bad) },
			} {
				t.Run(title, func(t *testing.T) {
					t.Parallel()
					wantShortAndPrintable(t, call())
				})
			}
		})
	}
}

// wantShortAndPrintable checks the texts of an error.
func wantShortAndPrintable(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		t.Fatal("there is no error")
	}
	texts := []string{err.Error(), status.Convert(err).Message()}
	for _, detail := range status.Convert(err).Details() {
		if bad, ok := detail.(*errdetails.BadRequest); ok {
			for _, violation := range bad.GetFieldViolations() {
				texts = append(texts, violation.GetField(), violation.GetDescription(), violation.GetReason())
			}
		}
	}
	for _, text := range texts {
		if len(text) > 4096 || !utf8.ValidString(text) || strings.ContainsFunc(text, func(char rune) bool { return !unicode.IsPrint(char) }) {
			t.Errorf("%d bytes: %.600q", len(text), text)
		}
	}
}
