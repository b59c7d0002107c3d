package client

import (
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

func TestAnExpiredSessionIsBelievedFromTheBoundInstanceAlone(t *testing.T) {
	t.Parallel()
	bound := discovery.NewIncarnation()
	from := []string{bound.String()}
	expired := refuse(t, atmostonce.SessionExpired)
	for name, test := range map[string]struct {
		err     error
		trailer metadata.MD
		age     time.Duration
		expired bool
		want    atmostonce.Outcome
	}{
		"a server that may have forgotten it":   {expired, metadata.MD{atmostonce.IncarnationKey: from}, 0, true, atmostonce.Refused},
		"a server that never knew it":           {expired, metadata.MD{atmostonce.IncarnationKey: from, atmostonce.OutcomeKey: {atmostonce.OutcomeRefused}}, 0, true, atmostonce.Refused},
		"a day later, of a server that forgot":  {expired, metadata.MD{atmostonce.IncarnationKey: from}, atmostonce.SessionKept, true, atmostonce.Unknown},
		"a day later, and it was never known":   {expired, metadata.MD{atmostonce.IncarnationKey: from, atmostonce.OutcomeKey: {atmostonce.OutcomeRefused}}, atmostonce.SessionKept, true, atmostonce.Refused},
		"a handler, of a call that it made":     {expired, metadata.MD{atmostonce.IncarnationKey: from, atmostonce.OutcomeKey: {atmostonce.OutcomeExecuted}}, 0, false, atmostonce.Executed},
		"another instance":                      {expired, metadata.MD{atmostonce.IncarnationKey: {discovery.NewIncarnation().String()}}, 0, false, atmostonce.Unknown},
		"another instance's handler":            {expired, metadata.MD{atmostonce.IncarnationKey: {discovery.NewIncarnation().String()}, atmostonce.OutcomeKey: {atmostonce.OutcomeExecuted}}, 0, false, atmostonce.Unknown},
		"a proxy that drops trailers":           {expired, nil, 0, false, atmostonce.Unknown},
		"two instances":                         {expired, metadata.MD{atmostonce.IncarnationKey: {from[0], from[0]}}, 0, false, atmostonce.Unknown},
		"the bound one with two outcomes":       {expired, metadata.MD{atmostonce.IncarnationKey: from, atmostonce.OutcomeKey: {atmostonce.OutcomeRefused, atmostonce.OutcomeExecuted}}, 0, false, atmostonce.Unknown},
		"the bound instance, for another cause": {refuse(t, atmostonce.DuplicateCall), metadata.MD{atmostonce.IncarnationKey: from}, 0, false, atmostonce.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := epoch
			caller := newCaller(func() time.Time { return now })
			attempt := caller.NewChannel().NewAttempt(t.Context(), "/a.B/C")
			if _, err := attempt.bind(nil, bound, nil, nil); err != nil {
				t.Fatal(err)
			}
			before := caller.session.Load().id
			now = now.Add(test.age)
			attempt.done(balancer.DoneInfo{Err: test.err, BytesSent: true, Trailer: test.trailer})
			if got := attempt.Outcome(); got != test.want || attempt.Expired() != test.expired {
				t.Errorf("the outcome is %v, expired is %t", got, attempt.Expired())
			}
			again := test.expired && test.age == 0
			if got := attempt.Renew(); got != again || (caller.session.Load().id != before) != test.expired {
				t.Errorf("it may be retried: %t, want %t; a new session: %t, want %t", got, again, caller.session.Load().id != before, test.expired)
			}
		})
	}
}

// TestTheAgeOfACallCountsTimeInWhichTheMachineSlept has a monotonic clock that
// did not advance.
func TestTheAgeOfACallCountsTimeInWhichTheMachineSlept(t *testing.T) {
	t.Parallel()
	now := time.Now()
	caller := newCaller(func() time.Time { return now })
	attempt := caller.NewChannel().NewAttempt(t.Context(), "/a.B/C")
	made := now
	now = made.Round(0).Add(48 * time.Hour) // the wall clock alone
	if got := attempt.age(); got != 48*time.Hour {
		t.Errorf("after a sleep of 48 h the call is %v old", got)
	}
	now = made.Add(time.Hour)
	if got := attempt.age(); got != time.Hour {
		t.Errorf("after an hour the call is %v old", got)
	}
}

func TestAnAttemptThatHasEndedIsNotBound(t *testing.T) {
	t.Parallel()
	attempt := NewCaller().NewChannel().NewAttempt(t.Context(), "/a.B/C")
	attempt.End()
	if _, err := attempt.bind(nil, discovery.NewIncarnation(), nil, nil); status.Code(err) != codes.Canceled || attempt.mayBind() || attempt.Outcome() != atmostonce.NotSent {
		t.Errorf("an attempt that has ended is bound: %v", err)
	}
	// One that is under way when the call returns may yet run.
	attempt = NewCaller().NewChannel().NewAttempt(t.Context(), "/a.B/C")
	if _, err := attempt.bind(nil, discovery.NewIncarnation(), nil, nil); err != nil {
		t.Fatal(err)
	}
	attempt.End()
	failed := errors.New("failed")
	attempt.failed(failed)
	if attempt.Outcome() != atmostonce.Unknown || attempt.Settled(failed) {
		t.Errorf("while its attempt is under way the outcome is %v, settled %t", attempt.Outcome(), attempt.Settled(failed))
	}
	attempt.done(balancer.DoneInfo{}) // it got no stream
	if attempt.Outcome() != atmostonce.NotSent || !attempt.Settled(failed) || attempt.Settled(errors.New("another")) {
		t.Errorf("when its attempt has ended the outcome is %v, settled %t", attempt.Outcome(), attempt.Settled(failed))
	}
	if _, err := attempt.bind(nil, discovery.NewIncarnation(), nil, nil); err == nil {
		t.Error("an attempt of a call that has ended is made again")
	}
}

func TestAPickWithoutItsAttemptIsRefused(t *testing.T) {
	t.Parallel()
	channel := NewCaller().NewChannel()
	known, none := discovery.NewIncarnation(), discovery.Incarnation{}
	good, stripped := &boundSubConn{}, &boundSubConn{address: "proxy.test:3128"}
	good.incarnation.Store(&known) // it said so itself
	stripped.incarnation.Store(&none)
	attempt := channel.NewAttempt(t.Context(), "/a.B/C")
	for name, test := range map[string]struct {
		info    balancer.PickInfo
		channel uint64
		conn    balancer.SubConn
		says    string
	}{
		"no attempt":                            {balancer.PickInfo{Ctx: t.Context(), FullMethodName: "/a.B/C"}, channel.ID(), good, "an interceptor replaced its context"},
		"another method":                        {balancer.PickInfo{Ctx: attempt, FullMethodName: "/a.B/D"}, channel.ID(), good, "the context of another call"},
		"another channel":                       {balancer.PickInfo{Ctx: attempt, FullMethodName: "/a.B/C"}, channel.ID() + 1, good, "the context of another call"},
		"no configured one":                     {balancer.PickInfo{Ctx: attempt, FullMethodName: "/a.B/C"}, 0, good, "the context of another call"},
		"a stripped address":                    {balancer.PickInfo{Ctx: attempt, FullMethodName: "/a.B/C"}, channel.ID(), stripped, "the call is not sent to proxy.test:3128"},
		"a connection that is not the policy's": {balancer.PickInfo{Ctx: attempt, FullMethodName: "/a.B/C"}, channel.ID(), nil, "whose instance is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			picker := &binding{child: onePicker{conn: test.conn}, channel: test.channel}
			_, err := picker.Pick(test.info)
			if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), test.says) || !attempt.mayBind() {
				t.Errorf("with %s the pick = %v, want INTERNAL that says %q", name, err, test.says)
			}
		})
	}
	picker := &binding{child: onePicker{conn: good}, channel: channel.ID()}
	if picked, err := picker.Pick(balancer.PickInfo{Ctx: attempt, FullMethodName: "/a.B/C"}); err != nil || len(picked.Metadata[atmostonce.CallKey]) != 1 {
		t.Errorf("the call's own pick = %v, %v", picked, err)
	}
}
