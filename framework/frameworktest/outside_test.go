package frameworktest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const outsideGoMod = `module outside

go 1.26.0

require github.com/onecall-dev/onecall v0.0.0
`

// outsideTest is a test of a program in another module. FAKE is replaced.
const outsideTest = `package outside

import (
	"context"
	"testing"

	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
)

func Test(t *testing.T) {
	kit := frameworktest.New(t, nil)
	auth := authv1.NewAuthServiceClient(kit)
	FAKE
	kit.Inject(auth.ResetPassword, frameworktest.ReplyLost())
	if _, err := auth.ResetPassword(t.Context(), &authv1.ResetPasswordRequest{Username: "adam"}); framework.OutcomeOf(err) != framework.Unknown {
		t.Error(err)
	}
}

var _ context.Context
`

const rightFake = `frameworktest.Fake(kit, auth.ResetPassword, func(context.Context, *authv1.ResetPasswordRequest) (*authv1.ResetPasswordResponse, error) {
		return new(authv1.ResetPasswordResponse), nil
	})`

// TestAnotherModuleUsesTheKit also has fakes with wrong types, which must not compile.
func TestAnotherModuleUsesTheKit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(repository, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, error) {
		command := exec.CommandContext(t.Context(), "go", args...)
		command.Dir, command.Env = dir, append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		out, err := command.CombinedOutput()
		return string(out), err
	}
	write("go.mod", outsideGoMod)
	write("go.sum", string(sums))
	write("outside_test.go", strings.Replace(outsideTest, "FAKE", rightFake, 1))
	for _, args := range [][]string{{"mod", "edit", "-replace", "github.com/onecall-dev/onecall=" + repository}, {"mod", "tidy"}, {"test", "."}} {
		if out, err := run(args...); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	for name, wrong := range map[string][2]string{
		"another request": {"*authv1.ResetPasswordRequest)", "*authv1.GetUserRequest)"},
		"another reply":   {"ResetPasswordResponse", "GetUserResponse"},
		"another RPC":     {"auth.ResetPassword,", "auth.GetUser,"},
		"no error":        {"(*authv1.ResetPasswordResponse, error)", "*authv1.ResetPasswordResponse"},
	} {
		write("outside_test.go", strings.Replace(outsideTest, "FAKE", strings.ReplaceAll(rightFake, wrong[0], wrong[1]), 1))
		if out, err := run("test", "-run", "^$", "."); err == nil || !strings.Contains(out, "[build failed]") || !strings.Contains(out, "frameworktest.Fake") {
			t.Errorf("with %s the test = %v\n%s", name, err, out)
		}
	}
}
