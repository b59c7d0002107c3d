package proxy

import (
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/internal/faulty/replay"
)

// Kind is what a proxy did with a call.
type Kind string

// The kinds.
const (
	// Passed is a call's first sending.
	Passed Kind = "passed"
	// Retried is a call's further sending, after an error.
	Retried Kind = "retried"
	// Replayed is a sending that nobody asked for.
	Replayed Kind = "replayed"
	// Streamed is a stream that was passed through.
	Streamed Kind = "streamed"
)

// Action is one sending.
type Action struct {
	Kind Kind
	Path string
	// Identity is the call's identity on the wire, "" if it has none.
	Identity string
	// Backend is the address it was sent to.
	Backend string
	// Code is the answer's, but for streams.
	Code codes.Code
	// Err is why there was no whole answer, else nil.
	Err error
}

// Replay decides which copies of a call to send besides: see [Config].
type Replay func(call replay.Call, backend string) []replay.Copy

// Same replays each call to the backend that it is sent to, as often as there
// are delays. 0 is at once.
func Same(after ...time.Duration) Replay {
	return func(_ replay.Call, backend string) []replay.Copy {
		var copies []replay.Copy
		for _, delay := range after {
			copies = append(copies, replay.Copy{Address: backend, After: delay})
		}
		return copies
	}
}

// Elsewhere replays each call to all of the backends but the one it is sent to.
func Elsewhere(backends []string, after time.Duration) Replay {
	return func(_ replay.Call, backend string) []replay.Copy {
		var copies []replay.Copy
		for _, other := range backends {
			if other != backend {
				copies = append(copies, replay.Copy{Address: other, After: after})
			}
		}
		return copies
	}
}

// Some does what another does for a share of the calls, 0 to 1, at random.
func Some(share float64, what Replay) Replay {
	return func(call replay.Call, backend string) []replay.Copy {
		if rand.Float64() >= share {
			return nil
		}
		return what(call, backend)
	}
}
