package framework_test

import (
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/faulty/peer"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestACallThatMayHaveRunOnceIsNotToldAsRefused breaks the connection of a call that
// runs, and refuses its retry. The last attempt did not run, but the first may have run.
func TestACallThatMayHaveRunOnceIsNotToldAsRefused(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	refused := refusal(codes.PermissionDenied, "", "refused")
	var turns atomic.Int64
	p := scripted(t, registry, func(request peer.Request) []peer.Step {
		if turns.Add(1) == 1 {
			return []peer.Step{peer.Read(), peer.Execute(), peer.Abort()}
		}
		return refused(request)
	})
	_, err := testv1.NewEchoServiceClient(newBus(t, registry)).Echo(t.Context(), &testv1.EchoRequest{}) // NO_SIDE_EFFECTS
	if got := arrived(p); got != 2 {
		t.Fatalf("%d requests arrived, want 2; the error is %v", got, err)
	}
	if got := framework.OutcomeOf(err); got != framework.Unknown {
		t.Errorf("the outcome is %v, want that it is not known; the error is %v", got, err)
	}
}
