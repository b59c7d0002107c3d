package framework_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
)

// TestTheDocumentsErrorsAreThoseThatCallsGet makes the calls whose errors
// docs/named-parameters.md shows.
func TestTheDocumentsErrorsAreThoseThatCallsGet(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/named-parameters.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]bool)
	for _, block := range strings.Split(string(page), "```text\n")[1:] {
		text, _, _ := strings.Cut(block, "```")
		for line := range strings.Lines(text) {
			shown[strings.TrimSpace(line)] = true
		}
	}
	bus, stop := called()
	defer stop()
	secret := framework.Args{"username": "admin", "password": "secret"}
	got := make(map[string]bool)
	for _, call := range []struct {
		name string
		args []any
	}{
		{"auth.check_password", []any{"admin", "secret"}},
		{"auth.check_password", []any{framework.Timeout(time.Second), secret}},
		{"auth.check_password", []any{framework.Args{"username": "admin"}}},
		{"auth.check_password", []any{framework.Args{"usrname": "admin", "password": "secret"}}},
		{"auth.check_password", []any{framework.Args{"username": 7, "password": "secret"}}},
		{"auth", []any{secret}},
		{"auth.checkPassword", []any{secret}},
		{"auth.chek_password", []any{secret}},
		{"aut.check_password", []any{secret}},
	} {
		t.Run(call.name, func(t *testing.T) {
			_, err := bus.Call(t.Context(), call.name, call.args...)
			if err == nil {
				t.Errorf("a call of %s with %v is no error", call.name, call.args)
				return
			}
			got[err.Error()] = true
		})
	}
	_, err = authv1.NewAuthServiceClient(bus).CheckPassword(t.Context(), &authv1.CheckPasswordRequest{})
	got[err.Error()] = true
	got[(&framework.SchemaError{
		API: "auth", Address: "10.0.0.7:8443", Version: "v2.0.0",
		Differences: []string{"auth.check_password: request.username is number 1 here and number 3 there"},
	}).Error()] = true
	for line := range got {
		if !shown[line] {
			t.Errorf("the page does not show\n%s", line)
		}
	}
	for line := range shown {
		if !got[line] {
			t.Errorf("the page shows what no call gets:\n%s", line)
		}
	}
}

// TestThePageOfInterceptorsShowsTheChain compares the table of docs/interceptors.md
// with the places of the code.
func TestThePageOfInterceptorsShowsTheChain(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/interceptors.md")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(page), "\n## ")
	var shown []string
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, "|"); len(cells) > 1 {
			shown = append(shown, strings.Trim(cells[1], " *"))
		}
	}
	const header = 2
	if places := framework.Places(); !slices.Equal(shown[header:], places) {
		t.Errorf("the page shows %q, the chain is %q", shown[header:], places)
	}
}
