package framework_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/faulty/peer"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// stalled leaves a call without a reply until its caller ends it.
var stalled = []peer.Step{peer.Read(), peer.Execute(), func(ctx context.Context, _ *peer.Stream) error {
	<-ctx.Done()
	return nil
}}

// short is the timeout of calls whose timeout must pass.
const short = 50 * time.Millisecond

// timingOut makes a call with a timeout that passes after the call was sent, and returns
// its error.
func timingOut(call func(timeout time.Duration) error) error {
	for timeout := short; ; timeout *= 2 { // on a busy machine it may pass before
		if err := call(timeout); framework.OutcomeOf(err) != framework.NotSent {
			return err
		}
	}
}

// timedOut returns the error of a call whose timeout passed.
func timedOut(t *testing.T, bus *framework.Bus) error {
	t.Helper()
	err := timingOut(func(timeout time.Duration) error {
		_, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}, framework.Timeout(timeout))
		return err
	})
	if status.Code(err) != codes.DeadlineExceeded || framework.OutcomeOf(err) != framework.Unknown {
		t.Fatalf("the call = %v, want DEADLINE_EXCEEDED and an unknown outcome", err)
	}
	return err
}

func TestACallWhoseTimePassedIsSettledByHand(t *testing.T) {
	t.Parallel()
	want := status.New(codes.NotFound, "there is no such user")
	for name, test := range map[string]struct {
		answers [][]peer.Step
		code    codes.Code
		outcome framework.Outcome
		text    string
	}{
		"it succeeded":             {[][]peer.Step{executed(t, nil, &testv1.EchoSoonResponse{Text: "kept"})}, codes.OK, framework.Executed, "kept"},
		"it runs, then succeeds":   {[][]peer.Step{runningAnswer, executed(t, nil, &testv1.EchoSoonResponse{Text: "kept"})}, codes.OK, framework.Executed, "kept"},
		"it failed":                {[][]peer.Step{executed(t, want, nil)}, codes.NotFound, framework.Executed, "no such user"},
		"its reply is not kept":    {[][]peer.Step{executed(t, nil, nil)}, codes.DataLoss, framework.Executed, "did not keep it"},
		"its reply is another one": {[][]peer.Step{answered(&onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_EXECUTED, Status: []byte{}, Reply: []byte{0xff}})}, codes.DataLoss, framework.Executed, "it has another type"},
		"its error is not kept":    {[][]peer.Step{answered(&onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_EXECUTED})}, codes.Unknown, framework.Executed, "did not keep"},
		"the answer says nothing":  {[][]peer.Step{answered(&onecallv1.SettleResponse{})}, codes.DeadlineExceeded, framework.Unknown, "nothing can be learned"},
		"the answer is newer":      {[][]peer.Step{answered(&onecallv1.SettleResponse{State: 99})}, codes.DeadlineExceeded, framework.Unknown, "nothing can be learned"},
		"it was refused":           {[][]peer.Step{refusedAnswer}, codes.DeadlineExceeded, framework.Refused, "refused it for good"},
		"it is forgotten":          {[][]peer.Step{unknownAnswer}, codes.DeadlineExceeded, framework.Unknown, "nothing can be learned"},
		"the instance is older":    {[][]peer.Step{{peer.Read(), peer.Fail(codes.Unimplemented, "no such method")}}, codes.DeadlineExceeded, framework.Unknown, "older than this question"},
		"it may not ask":           {[][]peer.Step{{peer.Read(), peer.Fail(codes.Unauthenticated, "who are you")}}, codes.DeadlineExceeded, framework.Unknown, "who are you"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			serveSettling(t, registry, stalled, test.answers...)
			bus := newBus(t, registry)
			before := timedOut(t, bus)
			reply := new(testv1.EchoSoonResponse)
			err := bus.Settle(eventually.Context(t), fmt.Errorf("wrapped: %w", before), reply)
			if status.Code(err) != test.code || framework.OutcomeOf(err) != test.outcome {
				t.Errorf("Settle = %v, want %v, %v", err, test.code, test.outcome)
			}
			if err != nil && !strings.Contains(err.Error(), test.text) || err == nil && reply.GetText() != test.text {
				t.Errorf("Settle = %v with %q, want %q", err, reply.GetText(), test.text)
			}
			if framework.OutcomeOf(err) == framework.Unknown && !errors.Is(err, before) {
				t.Errorf("Settle = %v, in which the error of the call is not found", err)
			}
			named := new(framework.Reply)
			if err := bus.Settle(eventually.Context(t), before, named); err == nil && test.text != "" {
				var text string
				if err := named.Into(&text); err != nil || text != test.text {
					t.Errorf("by name the reply is %q, %v", text, err)
				}
			}
			if err := bus.Settle(eventually.Context(t), before, nil); framework.OutcomeOf(err) != test.outcome || err != nil && test.code == codes.DataLoss {
				t.Errorf("without a reply Settle = %v, want %v", err, test.outcome)
			}
		})
	}
}

func TestACallThatDoesNotEndIsNotSettled(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveSettling(t, registry, stalled, runningAnswer)
	bus := newBus(t, registry)
	before := timedOut(t, bus)
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	err := bus.Settle(ctx, before, nil)
	if status.Code(err) != codes.DeadlineExceeded || framework.OutcomeOf(err) != framework.Unknown || !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, framework.ErrForgotten) {
		t.Errorf("Settle = %v, want DEADLINE_EXCEEDED", err)
	}
	if again := bus.Settle(ctx, err, nil); framework.OutcomeOf(again) != framework.Unknown || status.Code(again) == codes.InvalidArgument {
		t.Errorf("the error cannot be settled again: %v", again)
	}
}

func TestWhatCannotBeSettledIsAnInvalidArgument(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveSettling(t, registry, stalled, refusedAnswer)
	bus := newBus(t, registry, framework.TokenKey(make([]byte, 32)))
	before := timedOut(t, bus)
	client := testv1.NewEchoServiceClient(bus)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, notSent := client.EchoSoon(ended, &testv1.EchoSoonRequest{})
	err := timingOut(func(timeout time.Duration) error {
		limited, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		stream, err := client.Watch(limited, &testv1.WatchRequest{})
		for err == nil {
			_, err = stream.Recv()
		}
		return err
	})
	for name, test := range map[string]struct {
		err   error
		reply any
		want  string
	}{
		"no error":              {nil, nil, "the error is nil"},
		"another error":         {errors.New("x"), nil, "not of a call on a bus"},
		"a known outcome":       {notSent, nil, "the outcome of the call is known: the call was not sent"},
		"the bus's own error":   {framework.ErrClosed, nil, "is known"},
		"another type":          {before, new(testv1.EchoResponse), "the reply is a onecall.test.v1.EchoResponse, and the call has the reply onecall.test.v1.EchoSoonResponse"},
		"no message":            {before, new(string), "the reply is a *string"},
		"a nil message":         {before, (*testv1.EchoSoonResponse)(nil), "the reply is a *testv1.EchoSoonResponse"},
		"the reply of a stream": {err, new(testv1.WatchResponse), "a stream has no reply"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := bus.Settle(t.Context(), test.err, test.reply); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Settle = %v, want INVALID_ARGUMENT with %q", err, test.want)
			}
			if test.reply != nil {
				return
			}
			if token, err := framework.CallToken(test.err); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), test.want) {
				t.Errorf("CallToken = %q, %v, want INVALID_ARGUMENT with %q", token, err, test.want)
			}
		})
	}
	if err := newBus(t, registry).Settle(t.Context(), before, nil); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "another bus") {
		t.Errorf("Settle of another bus = %v", err)
	}
	if err := bus.Settle(t.Context(), err, nil); framework.OutcomeOf(err) != framework.Refused {
		t.Errorf("Settle of a stream = %v, want refused", err)
	}
}

func TestACallIsSettledAfterItsDeadline(t *testing.T) {
	t.Parallel()
	within := framework.SettleWithin(eventually.Limit)
	eachShape(t, []framework.BusOption{within}, func(t shaped) {
		s := serveSettling(t.T, t.registry, stalled, runningAnswer, executed(t.T, nil, &testv1.EchoSoonResponse{Text: "kept"}))
		var text string
		err := timingOut(func(timeout time.Duration) (err error) {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			text, err = t.call(ctx)
			return err
		})
		if err != nil || text != "kept" {
			t.Errorf("the call = %q, %v, want the reply that was kept", text, err)
		}
		if got := len(s.questions()); got != 2 {
			t.Errorf("the instance was asked %d times, want 2", got)
		}
	})
}

// TestTheTimeAfterTheDeadlineCanBeSetForACall also cancels a call, which is not settled.
func TestTheTimeAfterTheDeadlineCanBeSetForACall(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	s := serveSettling(t, registry, stalled, refusedAnswer)
	client := testv1.NewEchoServiceClient(newBus(t, registry))
	err := timingOut(func(timeout time.Duration) error {
		_, err := client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}, framework.Timeout(timeout), framework.SettleWithin(eventually.Limit))
		return err
	})
	if status.Code(err) != codes.DeadlineExceeded || framework.OutcomeOf(err) != framework.Refused {
		t.Errorf("the call = %v, want DEADLINE_EXCEEDED, refused", err)
	}
	before := len(s.questions())
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = s.Wait(t.Context(), func([]peer.Request) bool { return len(s.calls()) == 2 })
		cancel()
	}()
	_, err = client.EchoSoon(ctx, &testv1.EchoSoonRequest{}, framework.SettleWithin(eventually.Limit))
	if status.Code(err) != codes.Canceled || framework.OutcomeOf(err) != framework.Unknown || len(s.questions()) != before {
		t.Errorf("the canceled call = %v, and %d questions arrived", err, len(s.questions())-before)
	}
	if _, err = client.EchoSoon(t.Context(), &testv1.EchoSoonRequest{}, framework.SettleWithin(-1)); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "option SettleWithin") {
		t.Errorf("a negative time = %v", err)
	}
	if _, err := framework.NewBus(registry, framework.SettleWithin(-1)); err == nil || !strings.Contains(err.Error(), "option SettleWithin") {
		t.Errorf("a negative time of a bus = %v", err)
	}
	if _, err := client.Watch(t.Context(), &testv1.WatchRequest{}, framework.SettleWithin(1)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("a stream = %v", err)
	}
}

// TestTheCallersCancelEndsTheTimeAfterTheDeadline lets the call's own timeout pass, and
// then ends its context.
func TestTheCallersCancelEndsTheTimeAfterTheDeadline(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	s := serveSettling(t, registry, stalled, stalled)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = s.Wait(t.Context(), func([]peer.Request) bool { return len(s.questions()) == 1 })
		cancel()
	}()
	client := testv1.NewEchoServiceClient(newBus(t, registry))
	err := timingOut(func(timeout time.Duration) error {
		_, err := client.EchoSoon(ctx, &testv1.EchoSoonRequest{}, framework.Timeout(timeout), framework.SettleWithin(time.Hour))
		return err
	})
	if framework.OutcomeOf(err) != framework.Unknown || err == nil {
		t.Errorf("the call = %v, want an unknown outcome", err)
	}
}

func TestACallIsHandedToAnotherProcess(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	s := serveSettling(t, registry, stalled, executed(t, nil, &testv1.EchoSoonResponse{Text: "kept"}))
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	bus := newBus(t, registry, framework.TokenKey(key))
	before := timedOut(t, bus)
	token, err := framework.CallToken(before)
	if err != nil {
		t.Fatal(err)
	}
	other := newBus(t, registry, framework.TokenKey(key))
	reply, named := new(testv1.EchoSoonResponse), new(framework.Reply)
	if err := other.SettleToken(eventually.Context(t), token, reply); err != nil || reply.GetText() != "kept" {
		t.Errorf("SettleToken = %v with %q, want the reply", err, reply.GetText())
	}
	_, session, _ := strings.Cut(s.questions()[0].Identity(), ".") // the call itself may never have arrived
	session, _, _ = strings.Cut(session, ".")
	if strings.Contains(token, session) || len(token) > 1000 {
		t.Errorf("the token has %d characters, or shows the session", len(token))
	}
	if err := other.SettleToken(eventually.Context(t), token, named); err != nil || named.Map()["text"] != "kept" {
		t.Errorf("SettleToken by name = %v", err)
	}
	if err := other.SettleToken(eventually.Context(t), token, new(testv1.EchoResponse)); status.Code(err) != codes.InvalidArgument {
		t.Errorf("SettleToken with another type = %v", err)
	}

	asked := len(s.questions())
	old := resealed(t, key, token, sentAgo(25*time.Hour))
	if err := other.SettleToken(eventually.Context(t), resealed(t, key, token, sentAgo(23*time.Hour)), nil); err != nil {
		t.Errorf("a token of 23 h: SettleToken = %v", err)
	}
	asked++
	_, _ = rand.Read(key)
	strange := newBus(t, registry, framework.TokenKey(key))
	refused := func(what string, of *framework.Bus, text string) {
		t.Helper()
		if err := of.SettleToken(t.Context(), text, nil); status.Code(err) != codes.InvalidArgument || strings.Contains(err.Error(), token) {
			t.Errorf("%s: SettleToken = %v, want INVALID_ARGUMENT", what, err)
		}
	}
	refused("another key", strange, token)
	refused("no text", other, "")
	refused("a longer text", other, token+strings.Repeat("A", 10<<10))
	for i := range len(token) {
		refused(fmt.Sprintf("cut after %d", i), other, token[:i])
		changed := []byte(token)
		changed[i] ^= 1
		refused(fmt.Sprintf("changed at %d", i), other, string(changed))
	}
	refused("too old", other, old)
	if got := len(s.questions()); got != asked {
		t.Errorf("the instance was asked %d times for tokens that were refused", got-asked)
	}
}

// sentAgo is a change of a token: its call was sent a time ago.
func sentAgo(ago time.Duration) map[string]any {
	return map[string]any{"sent": time.Now().Add(-ago).Unix()}
}

// resealed returns a token with a change.
func resealed(t *testing.T, key []byte, token string, change map[string]any) string {
	t.Helper()
	prefix, text, _ := strings.Cut(token, ".")
	prefix += "."
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	block, wrong := aes.NewCipher(key)
	if err := errors.Join(err, wrong); err != nil {
		t.Fatal(err)
	}
	keyed, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	inside := make(map[string]any)
	plain, err := keyed.Open(nil, nil, sealed, []byte(prefix))
	if err := errors.Join(err, json.Unmarshal(plain, &inside)); err != nil {
		t.Fatal(err)
	}
	maps.Copy(inside, change)
	plain, err = json.Marshal(inside)
	if err != nil {
		t.Fatal(err)
	}
	return prefix + base64.RawURLEncoding.EncodeToString(keyed.Seal(nil, nil, plain, []byte(prefix)))
}

func TestATokenNeedsAKey(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveSettling(t, registry, stalled, refusedAnswer)
	bus := newBus(t, registry)
	_, err := framework.CallToken(timedOut(t, bus))
	for _, err := range []error{err, bus.SettleToken(t.Context(), "onecall1.x", nil)} {
		if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "TokenKey") {
			t.Errorf("without a key = %v, want FAILED_PRECONDITION that names TokenKey", err)
		}
	}
	if _, err := framework.NewBus(registry, framework.TokenKey(make([]byte, 16))); err == nil || !strings.Contains(err.Error(), "16 bytes instead of 32") {
		t.Errorf("a key of 16 bytes = %v", err)
	}
}

// TestAnIdempotentCallIsRetriedAndNotAsked also turns retries off.
func TestAnIdempotentCallIsRetriedAndNotAsked(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	s := serveSettling(t, registry, brokenAfter, refusedAnswer)
	bus := newBus(t, registry)
	_, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{})
	if framework.OutcomeOf(err) != framework.Unknown || len(s.questions()) != 0 {
		t.Errorf("the call = %v, and %d questions arrived", err, len(s.questions()))
	}
	if len(s.calls()) > 1 { // several attempts may have run
		if err := bus.Settle(eventually.Context(t), err, nil); framework.OutcomeOf(err) != framework.Unknown || !strings.Contains(err.Error(), "an earlier attempt may have run") {
			t.Errorf("Settle of several attempts = %v, want an unknown outcome", err)
		}
	}
	asked := len(s.questions())
	off := newBus(t, registry, framework.Retry(framework.RetryNone))
	ready(t, off, "test.echo")
	_, err = testv1.NewEchoServiceClient(off).Echo(t.Context(), &testv1.EchoRequest{})
	if framework.OutcomeOf(err) != framework.Refused || len(s.questions()) != asked+1 {
		t.Errorf("without retries the call = %v, and %d questions arrived, want one that is refused", err, len(s.questions())-asked)
	}
}

// FuzzSettleToken settles texts that are no tokens.
func FuzzSettleToken(f *testing.F) {
	registry := memory.New()
	bus := newBus(f, registry, framework.TokenKey(make([]byte, 32)))
	f.Add("")
	f.Add("onecall1.")
	f.Add("onecall1." + strings.Repeat("A", 64))
	f.Fuzz(func(t *testing.T, text string) {
		if err := bus.SettleToken(t.Context(), text, nil); status.Code(err) != codes.InvalidArgument {
			t.Errorf("SettleToken(%q) = %v, want INVALID_ARGUMENT", text, err)
		}
	})
}

func TestObserversAreNotifiedOfWhatBecameOfCalls(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer    []peer.Step
		outcome   framework.Outcome
		code      codes.Code
		forgotten bool
	}{
		"executed":   {executed(t, nil, &testv1.EchoSoonResponse{}), framework.Executed, codes.OK, false},
		"failed":     {executed(t, status.New(codes.NotFound, "no"), nil), framework.Executed, codes.NotFound, false},
		"not kept":   {executed(t, nil, nil), framework.Executed, codes.DataLoss, false},
		"no error":   {answered(&onecallv1.SettleResponse{State: onecallv1.SettleResponse_STATE_EXECUTED}), framework.Executed, codes.Unknown, false},
		"forgotten":  {unknownAnswer, framework.Unknown, codes.OK, true},
		"not so old": {[]peer.Step{peer.Read(), peer.Fail(codes.Unimplemented, "no")}, framework.Unknown, codes.OK, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry, events := memory.New(), new(recorder)
			s := serveSettling(t, registry, brokenAfter, test.answer)
			_, err := testv1.NewEchoServiceClient(newBus(t, registry, framework.Observe(events))).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
			settled := observed[framework.CallSettled](events)
			if len(settled) != 1 {
				t.Fatalf("the observer was notified of %+v, want one settled call", settled)
			}
			got := settled[0]
			if got.Duration <= 0 || got.Incarnation.IsZero() {
				t.Errorf("the event is %+v", got)
			}
			got.Duration, got.Incarnation = 0, discovery.Incarnation{}
			if want := (framework.CallSettled{RPC: "test.echo.echo_soon", Address: s.Address(), Outcome: test.outcome, Code: test.code, Forgotten: test.forgotten}); got != want {
				t.Errorf("the event is %+v, want %+v", got, want)
			}
			if ended := observed[framework.CallEnded](events); len(ended) != 1 || ended[0].Outcome != framework.OutcomeOf(err) || ended[0].Code != status.Code(err) {
				t.Errorf("the call ended as %+v, want %v", ended, err)
			}
		})
	}
}

// TestACallWhoseReplyHasAnUnknownTypeStaysUnknown is of an API that the registry does not
// have any more.
func TestACallWhoseReplyHasAnUnknownTypeStaysUnknown(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveSettling(t, registry, stalled, refusedAnswer)
	key := make([]byte, 32)
	bus := newBus(t, registry, framework.TokenKey(key))
	token, err := framework.CallToken(timedOut(t, bus))
	if err != nil {
		t.Fatal(err)
	}
	gone := resealed(t, key, token, map[string]any{
		"api": "shop.items", "rpc": "shop.items.find_item", "method": "/shop.v1.ItemService/FindItem", "reply": "shop.v1.FindItemResponse",
	})
	err = bus.SettleToken(eventually.Context(t), gone, new(framework.Reply))
	if framework.OutcomeOf(err) != framework.Unknown || !strings.Contains(err.Error(), "was not asked") {
		t.Errorf("SettleToken = %v, want an unknown outcome", err)
	}
}
