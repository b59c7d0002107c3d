package atmostonce

import (
	"io"
	"testing"

	"github.com/onecall-dev/onecall/discovery"
)

// asking is an error of an interceptor that asks the record which it is compared
// for.
type asking struct{ record *Record }

func (*asking) Error() string { return "of an interceptor" }

func (e *asking) Is(error) bool {
	_ = e.record.Outcome()
	return true
}

func TestAnErrorMayAskTheRecordThatItIsComparedFor(t *testing.T) {
	t.Parallel()
	record := &Record{answer: io.EOF, err: io.EOF, outcome: Unknown, identity: Identity{Incarnation: discovery.NewIncarnation()}}
	err := &asking{record}
	if !record.Answered(err) || !record.Settled(err) || !record.Foreign(err) {
		t.Error("the error is not the record's")
	}
}
