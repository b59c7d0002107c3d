package frameworktest_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// testHours makes a call that its service answers an hour late, and shuts the service down.
// In the fake time of synctest this takes milliseconds.
func testHours(t *testing.T) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) {
			testv1.RegisterEchoServiceServer(apis, &echo{})
		})
		client := testv1.NewEchoServiceClient(kit)
		kit.Inject(client.EchoSoon, frameworktest.Slow(time.Hour))

		began := time.Now()
		_, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: "hello"}, framework.Timeout(2*time.Hour))
		fmt.Println("the reply came after", time.Since(began), "with the error", err)

		kit.Inject(client.EchoSoon, frameworktest.Slow(time.Hour))
		began = time.Now()
		_, err = client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{Text: "hello"}, framework.Timeout(30*time.Minute))
		fmt.Println("the deadline passed after", time.Since(began), "and the outcome is", framework.OutcomeOf(err))

		began = time.Now()
		err = kit.Instances()[0].Stop()
		fmt.Println("the shutdown took less than a minute:", time.Since(began) < time.Minute, "with the error", err)
	})
}

func Example_fakeTime() {
	asTest(testHours)
	// Output:
	// the reply came after 1h0m0s with the error <nil>
	// the deadline passed after 30m0s and the outcome is it is not known whether the call ran
	// the shutdown took less than a minute: true with the error <nil>
}
