package snippets_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework/frameworktest"
)

// accounts returns those of a test.
func accounts() (users map[int64]*account, byName map[string]int64) {
	return map[int64]*account{1: {id: 1, username: "adam"}, 2: {id: 2, username: "eve", banned: true}}, map[string]int64{"adam": 1, "eve": 2}
}

// TestBothHandlersAnswerAlike calls the handler before and after its logic was taken out.
func TestBothHandlersAnswerAlike(t *testing.T) {
	t.Parallel()
	users, byName := accounts()
	before := &mixed{users: users, byName: byName}
	users, byName = accounts()
	after := &server{store: &store{users: users, byName: byName}}
	for name, handler := range map[string]authv1.AuthServiceServer{"before": before, "after": after} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			auth := authv1.NewAuthServiceClient(frameworktest.New(t, func(apis grpc.ServiceRegistrar) {
				authv1.RegisterAuthServiceServer(apis, handler)
			}))
			for username, want := range map[string]codes.Code{"adam": codes.OK, "eve": codes.FailedPrecondition, "nobody": codes.NotFound} {
				reply, err := auth.PromoteToAdmin(t.Context(), &authv1.PromoteToAdminRequest{Username: username})
				if status.Code(err) != want || reply.GetUser().GetAdmin() != (want == codes.OK) {
					t.Errorf("PromoteToAdmin of %s = %v, %v, want %v", username, reply, err, want)
				}
			}
		})
	}
}

// TestALogicIsTestedWithoutACall tests the logic of the handler alone.
func TestALogicIsTestedWithoutACall(t *testing.T) {
	t.Parallel()
	users, byName := accounts()
	logic := &store{users: users, byName: byName}
	if user, err := logic.promote(1); err != nil || !user.admin {
		t.Errorf("promote = %+v, %v", user, err)
	}
}
