package snippets_test

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
)

// fetchGreeting asks the API auth for the account, and returns a plain greeting if it gets no
// answer in time.
func fetchGreeting(ctx context.Context, auth authv1.AuthServiceClient, username string) string {
	reply, err := auth.GetUser(ctx, &authv1.GetUserRequest{Username: username}, framework.Timeout(200*time.Millisecond))
	if err != nil {
		slog.WarnContext(ctx, "greeting a user without the account", "error", err)
		return "Hello!"
	}
	if reply.GetUser().GetAdmin() {
		return "Hello, administrator " + username + "!"
	}
	return "Hello, " + username + "!"
}

func TestAGreetingDoesNotNeedTheAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, greet)
}

// greet runs in fake time.
func greet(t *testing.T) {
	t.Helper()
	kit := frameworktest.New(t, nil)
	auth := authv1.NewAuthServiceClient(kit)
	frameworktest.Fake(kit, auth.GetUser, func(_ context.Context, request *authv1.GetUserRequest) (*authv1.GetUserResponse, error) {
		return &authv1.GetUserResponse{User: &authv1.User{Id: 1, Username: request.GetUsername(), Admin: true}}, nil
	})
	kit.Inject(auth.GetUser, frameworktest.Slow(time.Hour))
	if got := fetchGreeting(t.Context(), auth, "adam"); got != "Hello!" {
		t.Errorf("without a reply the greeting is %q", got)
	}
	if got := fetchGreeting(t.Context(), auth, "adam"); got != "Hello, administrator adam!" {
		t.Errorf("the greeting is %q", got)
	}
}

// TestThePageOfRPCsCalculatesRight computes the table of reliability.
func TestThePageOfRPCsCalculatesRight(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../explanation/rpcs.md")
	if err != nil {
		t.Fatal(err)
	}
	const available, month = 0.999, 30 * 24 * time.Hour
	for _, services := range []int{1, 2, 3, 5, 10, 20} {
		together := math.Pow(available, float64(services))
		away := time.Duration((1 - together) * float64(month)).Round(time.Minute)
		row := fmt.Sprintf("| %d | %.2f %% | %s |", services, 100*together, strings.TrimSuffix(away.String(), "0s"))
		if !strings.Contains(string(page), row) {
			t.Errorf("the page does not have the row %s", row)
		}
	}
}

// BenchmarkFunction measures a call of the handler as a function, through its interface.
func BenchmarkFunction(b *testing.B) {
	users, byName := accounts()
	var handler authv1.AuthServiceServer = &server{store: &store{users: users, byName: byName}}
	for b.Loop() {
		if _, err := handler.PromoteToAdmin(b.Context(), &authv1.PromoteToAdminRequest{Username: "adam"}); err != nil {
			b.Fatal(err)
		}
	}
}
