package client

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/contextkey"
)

// sender makes calls as grpc-go does, without a connection.
type sender struct {
	channel *Channel
	picker  *binding
}

// newSender returns a sender to an instance. added is the metadata that the child policy
// adds to each pick.
func newSender(added metadata.MD) *sender {
	incarnation := discovery.NewIncarnation()
	conn := &boundSubConn{observer: unobserved{}}
	conn.incarnation.Store(&incarnation)
	channel := NewCaller().NewChannel()
	return &sender{channel, &binding{child: onePicker{conn, added}, channel: channel.ID()}}
}

const sentMethod = "/a.B/C"

// call makes a call, in whose invoker send runs with the context of grpc-go's attempt.
func (s *sender) call(attempt *Attempt, send func(ctx context.Context) error) error {
	return attempt.channel.UnaryClientInterceptor(attempt, sentMethod, nil, nil, nil, func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return send(ctx)
	})
}

// pick picks, and returns the metadata of the stream that grpc-go would make.
func (s *sender) pick(ctx context.Context) (sent metadata.MD, picked balancer.PickResult, err error) {
	if picked, err = s.picker.Pick(balancer.PickInfo{Ctx: ctx, FullMethodName: sentMethod}); err != nil {
		return nil, picked, err
	}
	if picked.Metadata != nil {
		outgoing, _ := metadata.FromOutgoingContext(ctx)
		ctx = metadata.NewOutgoingContext(ctx, metadata.Join(outgoing, picked.Metadata))
	}
	sent, _ = metadata.FromOutgoingContext(ctx)
	return sent, picked, nil
}

// identities returns the identities in the metadata of a context.
func identities(ctx context.Context) []string {
	outgoing, _ := metadata.FromOutgoingContext(ctx)
	return outgoing[atmostonce.CallKey]
}

func TestTheVersionOfGRPCIsKnown(t *testing.T) {
	t.Parallel()
	if !readsLate {
		t.Errorf("grpc-go is %s: run all tests with knownVersion set to it", grpc.Version)
	}
}

func TestAnUnknownGRPCGetsTheIdentityFromThePick(t *testing.T) { //nolint:paralleltest // it changes what is known
	readsLate = false
	defer func() { readsLate = true }()
	s := newSender(nil)
	err := s.call(s.channel.NewAttempt(t.Context(), sentMethod), func(ctx context.Context) error {
		sent, picked, err := s.pick(ctx)
		if err != nil {
			return err
		}
		if len(picked.Metadata[atmostonce.CallKey]) != 1 || len(sent[atmostonce.CallKey]) != 1 {
			t.Errorf("the result of the pick has %v, and %v is sent", picked.Metadata, sent)
		}
		picked.Done(balancer.DoneInfo{BytesSent: true})
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestTheIdentityIsSentOnceWhateverTheMetadata(t *testing.T) {
	t.Parallel()
	own := metadata.MD{"own": {"1", "2"}}
	appended := func(ctx context.Context) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "own", "1", "own", "2")
	}
	unchanged := func(ctx context.Context) context.Context { return ctx }
	for name, test := range map[string]struct {
		// program changes the context outside of the interceptor, and handler inside of
		// grpc-go, as a stats.Handler can.
		program, handler func(context.Context) context.Context
		child, want      metadata.MD
		// inResult is whether the result of the pick has the identity.
		inResult bool
	}{
		"none":          {unchanged, unchanged, nil, nil, false},
		"the program's": {func(ctx context.Context) context.Context { return metadata.NewOutgoingContext(ctx, own) }, unchanged, nil, own, false},
		"appended":      {appended, unchanged, nil, own, false},
		"both": {func(ctx context.Context) context.Context {
			return appended(metadata.NewOutgoingContext(ctx, metadata.MD{"first": {"0"}}))
		}, unchanged, nil, metadata.MD{"first": {"0"}, "own": {"1", "2"}}, false},
		"the child's":     {unchanged, unchanged, own, own, false},
		"replaced inside": {unchanged, func(ctx context.Context) context.Context { return metadata.NewOutgoingContext(ctx, own) }, nil, own, true},
		"appended inside": {unchanged, appended, nil, own, true},
		"a forged identity": {func(ctx context.Context) context.Context {
			return metadata.AppendToOutgoingContext(ctx, atmostonce.CallKey, "forged")
		}, unchanged, nil, nil, false},
		"the end of another": {func(ctx context.Context) context.Context { return metadata.NewOutgoingContext(ctx, metadata.MD{}) }, unchanged, nil, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSender(test.child)
			attempt := s.channel.NewAttempt(test.program(t.Context()), sentMethod)
			err := s.call(attempt, func(ctx context.Context) error {
				sent, picked, err := s.pick(test.handler(ctx))
				if err != nil {
					return err
				}
				if got := sent[atmostonce.CallKey]; !slices.Equal(got, []string{attempt.identity.Value()}) {
					t.Errorf("sent is the identity %q, want %q", got, attempt.identity.Value())
				}
				if _, inResult := picked.Metadata[atmostonce.CallKey]; inResult != test.inResult {
					t.Errorf("the result of the pick has the metadata %v", picked.Metadata)
				}
				for key, values := range test.want {
					if !slices.Equal(sent[key], values) {
						t.Errorf("of the key %q, %q are sent, want %q", key, sent[key], values)
					}
				}
				if len(sent) != len(test.want)+1 {
					t.Errorf("sent is %v", sent)
				}
				picked.Done(balancer.DoneInfo{BytesSent: true})
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheIdentityIsOnlyInTheContextOfItsPick(t *testing.T) {
	t.Parallel()
	s := newSender(nil)
	attempt := s.channel.NewAttempt(t.Context(), sentMethod)
	err := s.call(attempt, func(ctx context.Context) error {
		if got := identities(ctx); got != nil {
			t.Errorf("before the pick the context has the identity %q", got)
		}
		_, picked, err := s.pick(ctx)
		if err != nil {
			return err
		}
		if got := identities(attempt); got != nil {
			t.Errorf("an interceptor of the program reads the identity %q", got)
		}
		// An interceptor that calls its invoker again must not send the call again.
		again := s.call(attempt, func(ctx context.Context) error {
			if got := identities(ctx); got != nil {
				t.Errorf("the second invocation reads the identity of the first, %q", got)
			}
			_, _, err := s.pick(ctx)
			return err
		})
		if !errors.Is(again, errLeft) {
			t.Errorf("a second pick = %v, want %v", again, errLeft)
		}
		if got := identities(ctx); len(got) != 1 {
			t.Errorf("after another invocation the context has the identities %q", got)
		}
		picked.Done(balancer.DoneInfo{BytesSent: true})
		if got := identities(ctx); got != nil {
			t.Errorf("after the end of the pick the context has the identity %q", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestAPickWithoutAStreamIsFollowedByAnotherNumber(t *testing.T) {
	t.Parallel()
	s := newSender(nil)
	attempt := s.channel.NewAttempt(t.Context(), sentMethod)
	err := s.call(attempt, func(ctx context.Context) error {
		first, picked, err := s.pick(ctx)
		if err != nil {
			return err
		}
		picked.Done(balancer.DoneInfo{})
		second, picked, err := s.pick(ctx)
		if err != nil {
			return err
		}
		before, after := first[atmostonce.CallKey], second[atmostonce.CallKey]
		if len(before) != 1 || len(after) != 1 || before[0] == after[0] {
			t.Errorf("two picks have the identities %q and %q", before, after)
		}
		picked.Done(balancer.DoneInfo{BytesSent: true})
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestWhatOthersReadKeepsItsValue is about the metadata that a stats.Handler or the
// program reads from the context of a stream, in which it may look after the call.
func TestWhatOthersReadKeepsItsValue(t *testing.T) {
	t.Parallel()
	s := newSender(nil)
	var held []context.Context
	var want []string
	read := func(ctx context.Context, attempt *Attempt) {
		held = append(held, context.WithValue(t.Context(), contextkey.Outgoing, ctx.Value(contextkey.Outgoing)))
		want = append(want, attempt.identity.Value())
	}
	send := func(reads bool, info balancer.DoneInfo) {
		attempt := s.channel.NewAttempt(t.Context(), sentMethod)
		err := s.call(attempt, func(ctx context.Context) error {
			picked, err := s.picker.Pick(balancer.PickInfo{Ctx: ctx, FullMethodName: sentMethod})
			if err != nil {
				return err
			}
			if info.BytesSent { // grpc-go made a stream
				identities(ctx)
			}
			if reads {
				read(ctx, attempt)
			}
			picked.Done(info)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	for range 20 {
		send(true, balancer.DoneInfo{BytesSent: true})
		send(true, balancer.DoneInfo{})
		send(false, balancer.DoneInfo{BytesSent: true})
		send(false, balancer.DoneInfo{BytesSent: true})
	}
	for i, ctx := range held {
		if got := identities(ctx); !slices.Equal(got, want[i:i+1]) {
			t.Fatalf("what was read of call %d is %q, want %q", i, got, want[i])
		}
	}
}

// TestTheMetadataIsReadByAnyGoroutine is for the race detector.
func TestTheMetadataIsReadByAnyGoroutine(t *testing.T) {
	t.Parallel()
	s := newSender(nil)
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 200 {
				err := s.call(s.channel.NewAttempt(t.Context(), sentMethod), func(ctx context.Context) error {
					running.Go(func() { identities(ctx) })
					sent, picked, err := s.pick(ctx)
					if err != nil {
						return err
					}
					if len(sent[atmostonce.CallKey]) != 1 {
						t.Errorf("sent is %v", sent)
					}
					picked.Done(balancer.DoneInfo{BytesSent: true})
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
}
