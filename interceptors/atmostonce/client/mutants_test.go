package client

import (
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// TestACallOfADayAgoIsNotRetriedForAnExpiredSession has a session expire
// under calls of several ages: an old one may be what the server forgot.
func TestACallOfADayAgoIsNotRetriedForAnExpiredSession(t *testing.T) {
	t.Parallel()
	for age, want := range map[time.Duration]bool{0: true, 22 * time.Hour: true, 23 * time.Hour: false, 48 * time.Hour: false} {
		t.Run(age.String(), func(t *testing.T) {
			now := epoch
			caller := newCaller(func() time.Time { return now })
			attempt := caller.NewChannel().NewAttempt(t.Context(), "/a.B/C")
			if attempt.Renew() {
				t.Error("a call that was never bound is retried in a new session")
			}
			incarnation := discovery.NewIncarnation()
			if _, err := attempt.bind(nil, incarnation, nil, nil); err != nil {
				t.Fatal(err)
			}
			if attempt.Renew() {
				t.Error("an attempt in flight is retried in a new session")
			}
			attempt.done(balancer.DoneInfo{Err: refuse(t, atmostonce.SessionExpired), BytesSent: true, Trailer: metadata.MD{atmostonce.IncarnationKey: {incarnation.String()}}})
			before := caller.session.Load().id
			now = now.Add(age)
			if got := attempt.Renew(); got != want {
				t.Errorf("the call is retried: %v, want %v", got, want)
			}
			if caller.session.Load().id == before {
				t.Error("the session is the same, though it has expired")
			}
		})
	}
}
