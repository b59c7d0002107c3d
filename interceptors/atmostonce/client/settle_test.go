package client

import (
	"errors"
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// TestAQuestionIsSentToItsInstanceAlone asks what became of an attempt.
func TestAQuestionIsSentToItsInstanceAlone(t *testing.T) {
	t.Parallel()
	bound := discovery.NewIncarnation()
	for name, test := range map[string]struct {
		at                  discovery.Incarnation
		misplaced, replaced bool
	}{
		"the instance":                      {bound, false, false},
		"another instance":                  {discovery.NewIncarnation(), true, true},
		"one that does not say which it is": {discovery.Incarnation{}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			caller := NewCaller()
			call := caller.NewChannel().NewAttempt(t.Context(), "/a.B/C")
			sent, err := call.bind(nil, bound, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			value := sent[atmostonce.CallKey][0]
			call.done(balancer.DoneInfo{Err: status.Error(codes.Unavailable, "broken"), BytesSent: true})
			question := caller.NewChannel().Ask(t.Context(), "/x.Y/Z", call.Identity())
			asked, err := question.bind(nil, test.at, nil, nil)
			misplaced, replaced := question.Misplaced()
			if misplaced != test.misplaced || replaced != test.replaced || (err != nil) != test.misplaced {
				t.Errorf("misplaced is %t, replaced is %t, the error is %v", misplaced, replaced, err)
			}
			if err == nil && (len(asked[atmostonce.CallKey]) != 1 || asked[atmostonce.CallKey][0] != value) {
				t.Errorf("the question carries %v, want the identity of the call", asked)
			}
			if err != nil && (status.Code(err) != codes.Unavailable || question.Outcome() != atmostonce.NotSent) {
				t.Errorf("the question = %v, %v, want UNAVAILABLE, not sent", err, question.Outcome())
			}
			if _, seq := caller.addLane(bound).draw(); seq != 2 {
				t.Errorf("the next number is %d: the question took one", seq)
			}
		})
	}
}

func TestTheAnswerIsTheOutcome(t *testing.T) {
	t.Parallel()
	for _, outcome := range []atmostonce.Outcome{atmostonce.Refused, atmostonce.Executed} {
		call := NewCaller().NewChannel().NewAttempt(t.Context(), "/a.B/C")
		if _, err := call.bind(nil, discovery.NewIncarnation(), nil, nil); err != nil {
			t.Fatal(err)
		}
		broken := errors.New("broken")
		call.failed(broken)
		call.done(balancer.DoneInfo{Err: broken, BytesSent: true})
		call.Conclude(outcome)
		if call.Outcome() != outcome || !call.Settled(broken) || call.mayBind() {
			t.Errorf("the outcome is %v, want %v", call.Outcome(), outcome)
		}
	}
}
