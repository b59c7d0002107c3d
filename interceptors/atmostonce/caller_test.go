package atmostonce

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
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
)

func TestNoTwoCallsHaveOneIdentity(t *testing.T) {
	t.Parallel()
	caller := NewCaller()
	incarnations := []discovery.Incarnation{discovery.NewIncarnation(), discovery.NewIncarnation()}
	var (
		mu   sync.Mutex
		seen = make(map[Identity]bool)
		all  sync.WaitGroup
	)
	for range 8 {
		all.Go(func() {
			for i := range 2000 {
				identity, _, value := caller.identify(incarnations[i%2])
				if parsed, err := ParseIdentity(value); err != nil || parsed != identity {
					t.Errorf("%v stands on the wire as %v (%v)", identity, parsed, err)
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

func TestARecordIsNotBoundAgainOnceItMayHaveLeft(t *testing.T) {
	t.Parallel()
	caller, incarnation := NewCaller(), discovery.NewIncarnation()
	record := caller.NewChannel().NewRecord(t.Context(), "/a.B/C")
	if got := record.Outcome(); got != NotSent {
		t.Errorf("before a pick the outcome is %v", got)
	}
	first, err := record.bind(nil, incarnation, nil)
	if err != nil {
		t.Fatal(err)
	}
	before := first[CallKey][0]
	if _, err := record.bind(nil, incarnation, nil); status.Code(err) != codes.Unavailable {
		t.Errorf("bound twice at once: %v", err)
	}
	if got := record.Outcome(); got != Unknown {
		t.Errorf("while it may be on its way the outcome is %v", got)
	}
	record.done(balancer.DoneInfo{Err: errors.New("no stream")})
	if got := record.Outcome(); got != NotSent {
		t.Errorf("without a stream the outcome is %v", got)
	}
	second, err := record.bind(nil, incarnation, nil)
	if err != nil || second[CallKey][0] == before {
		t.Errorf("what never left is bound anew as %v (%v), want another number than %s", second, err, before)
	}
	told := 0
	record.done(balancer.DoneInfo{Err: errors.New("broken"), BytesSent: true})
	if _, err := record.bind(nil, incarnation, func(balancer.DoneInfo) { told++ }); status.Code(err) != codes.Unavailable || record.mayBind() {
		t.Errorf("what may have left is bound again: %v", err)
	}
	if got := record.Outcome(); got != Unknown || told != 0 {
		t.Errorf("after a broken stream the outcome is %v", got)
	}
}

func TestTheOutcomeIsWhatTheBoundInstanceSays(t *testing.T) {
	t.Parallel()
	incarnation := discovery.NewIncarnation()
	from := []string{incarnation.String()}
	for name, test := range map[string]struct {
		trailer metadata.MD
		want    Outcome
	}{
		"nothing":          {nil, Unknown},
		"refused":          {metadata.MD{OutcomeKey: {"refused"}, IncarnationKey: from}, Refused},
		"executed":         {metadata.MD{OutcomeKey: {"executed"}, IncarnationKey: from}, Executed},
		"another word":     {metadata.MD{OutcomeKey: {"perhaps"}, IncarnationKey: from}, Unknown},
		"twice":            {metadata.MD{OutcomeKey: {"refused", "executed"}, IncarnationKey: from}, Unknown},
		"another instance": {metadata.MD{OutcomeKey: {"refused"}, IncarnationKey: {discovery.NewIncarnation().String()}}, Unknown},
		"nobody":           {metadata.MD{OutcomeKey: {"refused"}}, Unknown},
		"two instances":    {metadata.MD{OutcomeKey: {"refused"}, IncarnationKey: {from[0], from[0]}}, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			record := NewCaller().NewChannel().NewRecord(t.Context(), "/a.B/C")
			if _, err := record.bind(nil, incarnation, nil); err != nil {
				t.Fatal(err)
			}
			record.done(balancer.DoneInfo{Err: errors.New("failed"), BytesSent: true, Trailer: test.trailer})
			if got := record.Outcome(); got != test.want {
				t.Errorf("when the trailer says %s the outcome is %v, want %v", name, got, test.want)
			}
		})
	}
	// A server without identities cannot be believed.
	record := NewCaller().NewChannel().NewRecord(t.Context(), "/a.B/C")
	if md, err := record.bind(nil, discovery.Incarnation{}, nil); err != nil || md != nil {
		t.Fatalf("a call to a plain server has the metadata %v (%v)", md, err)
	}
	record.done(balancer.DoneInfo{Err: errors.New("failed"), BytesSent: true, Trailer: metadata.MD{OutcomeKey: {"refused"}, IncarnationKey: {""}}})
	if got := record.Outcome(); got != Unknown {
		t.Errorf("the outcome of a call to a plain server is %v", got)
	}
}

func TestARecordIsAContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	parent, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "value"), time.Hour)
	record := NewCaller().NewChannel().NewRecord(parent, "/a.B/C")
	child, stop := context.WithCancel(record)
	defer stop()
	if recordOf(child) != record || child.Value(key{}) != "value" || recordOf(parent) != nil {
		t.Error("a record is not found where it is, or is found where it is not")
	}
	inner := NewCaller().NewChannel().NewRecord(child, "/a.B/C")
	if recordOf(inner) != inner {
		t.Error("a call made inside another has the other's record")
	}
	cancel()
	<-child.Done()
}

func TestReservedMetadataIsNotPassedOn(t *testing.T) {
	t.Parallel()
	ctx := metadata.AppendToOutgoingContext(t.Context(), CallKey, "forged", "Onecall-Outcome", "refused", "own", "kept")
	prepared, err := prepare(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := metadata.FromOutgoingContext(prepared); len(got) != 1 || len(got["own"]) != 1 {
		t.Errorf("the metadata is %v, want own alone", got)
	}
	for _, ctx := range []context.Context{t.Context(), metadata.AppendToOutgoingContext(t.Context(), "own", "kept")} {
		if prepared, err := prepare(ctx); err != nil || prepared != ctx {
			t.Errorf("a context without reserved metadata was replaced (%v)", err)
		}
	}
}

func TestThePolicyWrapsAnyOfGRPCs(t *testing.T) {
	t.Parallel()
	builder := NewPolicy(
		func(resolver.Address) discovery.Incarnation { return discovery.Incarnation{} },
		func(resolver.Address) Observer { return nil },
	)
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
