package discoverytest

import (
	"context"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/eventually"
)

// letsObserversCall has an observer call every method of the registry while it is
// notified.
func letsObserversCall(t *testing.T, here, elsewhere discovery.Registry) {
	t.Helper()
	done := make(chan struct{}, 1)
	stop := here.Watch("auth", func(snapshot discovery.Snapshot) {
		for _, api := range []string{"auth", "other"} {
			here.Watch(api, func(discovery.Snapshot) {})()
		}
		for _, instance := range snapshot.Instances {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, _ = here.Descriptors(ctx, instance) // another registry may be away
			cancel()
		}
		registration, err := here.Register(Instance("other", "10.0.0.9:1"))
		if err != nil {
			t.Errorf("Register: %v", err)
			return
		}
		_ = registration.Status()
		Close(t, registration)
		if len(snapshot.Instances) == 1 {
			select {
			case done <- struct{}{}:
			default:
			}
		}
	})
	defer stop()
	Register(t, elsewhere, Instance("auth", "10.0.0.1:1"))
	Register(t, here, Instance("other", "10.0.0.2:1"))
	eventually.Receive(t, "the instance, seen by an observer that waits for no lock", done)
}
