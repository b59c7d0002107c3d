package framework

import (
	"fmt"

	"github.com/onecall-dev/onecall/framework/internal/client"
)

// RetryPolicy says which failed calls a bus retries: see [Retry].
type RetryPolicy int

// The retry policies. Each includes the ones before it.
const (
	// RetryNone makes one attempt of each call.
	RetryNone = RetryPolicy(client.RetryNone)
	// RetryNotRun retries a call that certainly did not run and never will, because
	// it was not sent or was refused, if another instance may accept it. It makes at
	// most 3 retries of a call. Of calls that were refused with RESOURCE_EXHAUSTED it
	// retries at most 10 % of the recent calls of their API.
	RetryNotRun = RetryPolicy(client.RetryNotRun)
	// RetryIdempotent is the default. It also retries a call that may have run because
	// its connection broke, if its RPC declares NO_SIDE_EFFECTS or IDEMPOTENT. It
	// makes at most 2 such retries of a call, and retries at most 10 % of the recent
	// calls.
	RetryIdempotent = RetryPolicy(client.RetryIdempotent)
)

// Retry sets which failed calls a bus retries, before their deadline. Nothing else
// sends a call twice. The default is [RetryIdempotent].
func Retry(policy RetryPolicy) BusOption {
	return busOption(func(o *client.Options) error {
		if policy < RetryNone || policy > RetryIdempotent {
			return fmt.Errorf("option Retry: there is no policy %d: give RetryNone, RetryNotRun or RetryIdempotent", policy)
		}
		o.Retry = client.RetryPolicy(policy)
		return nil
	})
}
