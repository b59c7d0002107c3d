package client

import (
	"io"
	"testing"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// asking is an error of an interceptor. It calls the attempt that it is compared
// for.
type asking struct{ attempt *Attempt }

func (*asking) Error() string { return "of an interceptor" }

func (e *asking) Is(error) bool {
	_ = e.attempt.Outcome()
	return true
}

func TestAnErrorMayCallTheAttemptThatItIsComparedFor(t *testing.T) {
	t.Parallel()
	attempt := &Attempt{answer: io.EOF, err: io.EOF, outcome: atmostonce.Unknown, identity: atmostonce.Identity{Incarnation: discovery.NewIncarnation()}}
	err := &asking{attempt}
	if !attempt.Answered(err) || !attempt.Settled(err) || !attempt.Foreign(err) {
		t.Error("the error is not the attempt's")
	}
}
