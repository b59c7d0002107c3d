package client

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/leastrequest"
	_ "google.golang.org/grpc/balancer/ringhash"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

func TestNoTwoCallsHaveOneIdentity(t *testing.T) {
	t.Parallel()
	caller := NewCaller()
	incarnations := []discovery.Incarnation{discovery.NewIncarnation(), discovery.NewIncarnation()}
	var (
		mu   sync.Mutex
		seen = make(map[atmostonce.Identity]bool)
		all  sync.WaitGroup
	)
	for range 8 {
		all.Go(func() {
			for i := range 2000 {
				identity, _, value := caller.identify(incarnations[i%2])
				if parsed, err := atmostonce.ParseIdentity(value); err != nil || parsed != identity {
					t.Errorf("%v is on the wire %v (%v)", identity, parsed, err)
				}
				if i == 1000 {
					caller.renew(identity)
				}
				mu.Lock()
				if seen[identity] {
					t.Errorf("%v was given twice", identity)
				}
				seen[identity] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
}

func TestNumbersCountFromOneForEachIncarnation(t *testing.T) {
	t.Parallel()
	caller := NewCaller()
	first, second := discovery.NewIncarnation(), discovery.NewIncarnation()
	for _, want := range []uint64{1, 2, 3} {
		for _, incarnation := range []discovery.Incarnation{first, second} {
			if got, _, _ := caller.identify(incarnation); got.Seq != want || got.Incarnation != incarnation {
				t.Errorf("the identity is %v, want number %d", got, want)
			}
		}
	}
	before, _, _ := caller.identify(first)
	old := before.Session
	caller.renew(before)
	renewed, _, _ := caller.identify(first)
	if renewed.Session == old || renewed.Seq != 1 {
		t.Errorf("after a renewal the identity is %v", renewed)
	}
	caller.renew(before) // by a call that was slow to learn
	if again, _, _ := caller.identify(first); again.Session != renewed.Session {
		t.Error("a session was renewed for the sake of the one before it")
	}
}

func TestIncarnationsThatEndedAreNotCountedForEver(t *testing.T) {
	t.Parallel()
	caller := NewCaller()
	session := caller.session.Load().id
	for range maxLanes {
		if got, _, _ := caller.identify(discovery.NewIncarnation()); got.Session != session {
			t.Fatal("a session was replaced before it had as many lanes as it may")
		}
	}
	if got, _, _ := caller.identify(discovery.NewIncarnation()); got.Session == session || got.Seq != 1 {
		t.Errorf("with one incarnation too many the identity is %v, want a new session's", got)
	}
	if lanes := len(*caller.session.Load().lanes.Load()); lanes != 1 {
		t.Errorf("the new session has %d lanes, want one", lanes)
	}
}

func TestAnAttemptIsNotBoundAgainOnceItMayHaveLeft(t *testing.T) {
	t.Parallel()
	caller, incarnation := NewCaller(), discovery.NewIncarnation()
	attempt := caller.NewChannel().NewAttempt(t.Context(), "/a.B/C")
	if got := attempt.Outcome(); got != atmostonce.NotSent {
		t.Errorf("before a pick the outcome is %v", got)
	}
	first, err := attempt.bind(nil, incarnation, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	before := first[atmostonce.CallKey][0]
	if _, err := attempt.bind(nil, incarnation, nil, nil); status.Code(err) != codes.Unavailable {
		t.Errorf("bound twice at once: %v", err)
	}
	if got := attempt.Outcome(); got != atmostonce.Unknown {
		t.Errorf("while it may be on its way the outcome is %v", got)
	}
	attempt.done(balancer.DoneInfo{Err: errors.New("no stream")})
	if got := attempt.Outcome(); got != atmostonce.NotSent {
		t.Errorf("without a stream the outcome is %v", got)
	}
	second, err := attempt.bind(nil, incarnation, nil, nil)
	if err != nil || second[atmostonce.CallKey][0] == before {
		t.Errorf("what never left is bound anew as %v (%v), want another number than %s", second, err, before)
	}
	ends := 0
	attempt.done(balancer.DoneInfo{Err: errors.New("broken"), BytesSent: true})
	if _, err := attempt.bind(nil, incarnation, nil, func(balancer.DoneInfo) { ends++ }); status.Code(err) != codes.Unavailable || attempt.mayBind() {
		t.Errorf("what may have left is bound again: %v", err)
	}
	if got := attempt.Outcome(); got != atmostonce.Unknown || ends != 0 {
		t.Errorf("after a broken stream the outcome is %v", got)
	}
}

func TestTheOutcomeIsWhatTheBoundInstanceSays(t *testing.T) {
	t.Parallel()
	incarnation := discovery.NewIncarnation()
	from := []string{incarnation.String()}
	for name, test := range map[string]struct {
		trailer metadata.MD
		want    atmostonce.Outcome
	}{
		"nothing":          {nil, atmostonce.Unknown},
		"refused":          {metadata.MD{atmostonce.OutcomeKey: {"refused"}, atmostonce.IncarnationKey: from}, atmostonce.Refused},
		"executed":         {metadata.MD{atmostonce.OutcomeKey: {"executed"}, atmostonce.IncarnationKey: from}, atmostonce.Executed},
		"another word":     {metadata.MD{atmostonce.OutcomeKey: {"perhaps"}, atmostonce.IncarnationKey: from}, atmostonce.Unknown},
		"twice":            {metadata.MD{atmostonce.OutcomeKey: {"refused", "executed"}, atmostonce.IncarnationKey: from}, atmostonce.Unknown},
		"another instance": {metadata.MD{atmostonce.OutcomeKey: {"refused"}, atmostonce.IncarnationKey: {discovery.NewIncarnation().String()}}, atmostonce.Unknown},
		"no instance":      {metadata.MD{atmostonce.OutcomeKey: {"refused"}}, atmostonce.Unknown},
		"two instances":    {metadata.MD{atmostonce.OutcomeKey: {"refused"}, atmostonce.IncarnationKey: {from[0], from[0]}}, atmostonce.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			attempt := NewCaller().NewChannel().NewAttempt(t.Context(), "/a.B/C")
			if _, err := attempt.bind(nil, incarnation, nil, nil); err != nil {
				t.Fatal(err)
			}
			attempt.done(balancer.DoneInfo{Err: errors.New("failed"), BytesSent: true, Trailer: test.trailer})
			if got := attempt.Outcome(); got != test.want {
				t.Errorf("when the trailer says %s the outcome is %v, want %v", name, got, test.want)
			}
		})
	}
	// A server without identities cannot be believed.
	attempt := NewCaller().NewChannel().NewAttempt(t.Context(), "/a.B/C")
	if md, err := attempt.bind(nil, discovery.Incarnation{}, nil, nil); err != nil || md != nil {
		t.Fatalf("a call to a plain server has the metadata %v (%v)", md, err)
	}
	attempt.done(balancer.DoneInfo{Err: errors.New("failed"), BytesSent: true, Trailer: metadata.MD{atmostonce.OutcomeKey: {"refused"}, atmostonce.IncarnationKey: {""}}})
	if got := attempt.Outcome(); got != atmostonce.Unknown {
		t.Errorf("the outcome of a call to a plain server is %v", got)
	}
}

func TestAnAttemptIsAContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	parent, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "value"), time.Hour)
	attempt := NewCaller().NewChannel().NewAttempt(parent, "/a.B/C")
	child, stop := context.WithCancel(attempt)
	defer stop()
	if attemptOf(child) != attempt || child.Value(key{}) != "value" || attemptOf(parent) != nil {
		t.Error("an attempt is not found where it is, or is found where it is not")
	}
	inner := NewCaller().NewChannel().NewAttempt(child, "/a.B/C")
	if attemptOf(inner) != inner {
		t.Error("a call made inside another has the other's attempt")
	}
	cancel()
	<-child.Done()
}

func TestReservedMetadataIsNotPassedOn(t *testing.T) {
	t.Parallel()
	ctx := metadata.AppendToOutgoingContext(t.Context(), atmostonce.CallKey, "forged", "Onecall-Outcome", "refused", "own", "kept")
	prepared, _, err := prepare(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := metadata.FromOutgoingContext(prepared); len(got) != 1 || len(got["own"]) != 1 {
		t.Errorf("the metadata is %v, want own alone", got)
	}
	for _, ctx := range []context.Context{t.Context(), metadata.AppendToOutgoingContext(t.Context(), "own", "kept")} {
		if prepared, _, err := prepare(ctx); err != nil || prepared != ctx {
			t.Errorf("a context without reserved metadata was replaced (%v)", err)
		}
	}
}

func TestThePolicyWrapsAnyOfGRPCs(t *testing.T) {
	t.Parallel()
	builder := balancer.Get(PolicyName)
	parser, ok := builder.(balancer.ConfigParser)
	if !ok || builder.Name() != PolicyName {
		t.Fatal("the policy reads no configuration")
	}
	for config, want := range map[string]string{
		`{"childPolicy":[{"round_robin":{}}]}`:                               "",
		`{"childPolicy":[{"pick_first":{"shuffleAddressList":true}}]}`:       "",
		`{"childPolicy":[{"least_request_experimental":{"choiceCount":3}}]}`: "",
		`{"childPolicy":[{"ring_hash_experimental":{}}]}`:                    "",
		`{"childPolicy":[{"of_another_release":{}},{"round_robin":{}}]}`:     "",
		`{"childPolicy":[{"least_request_experimental":{"choiceCount":1}}]}`: "choiceCount",
		`{"childPolicy":[{"no_such_policy":{}}]}`:                            "names no policy",
		`{}`: "names no policy",
		`[]`: "cannot unmarshal",
	} {
		t.Run(config, func(t *testing.T) {
			parsed, err := parser.ParseConfig(json.RawMessage(config))
			if want == "" && (err != nil || parsed == nil) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("of %s: %v, %v, want an error that says %q", config, parsed, err, want)
			}
		})
	}
	if roundrobin.Name != "round_robin" {
		t.Error("grpc-go renamed its policy")
	}
}

func TestAnIdentityTakesOneAllocation(t *testing.T) { //nolint:paralleltest // allocations of others would count
	caller, incarnation := NewCaller(), discovery.NewIncarnation()
	got := testing.AllocsPerRun(1000, func() {
		identity, drawn, _ := caller.identify(incarnation)
		drawn.end(identity.Seq)
	})
	if got != 1 {
		t.Errorf("an identity takes %v allocations, want 1, its text", got)
	}
}
