package client

import (
	"context"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// Ask returns an attempt that asks an instance what became of a call. It is sent only
// to the incarnation of the call's identity, and to instances which say that they answer
// for others. It carries that identity, which has the session that the instance answers.
// method is gRPC's path of the question. If the channel is for one instance, its child
// policy should be pick_first, so that the instance is also asked while it drains.
func (c *Channel) Ask(ctx context.Context, method string, of atmostonce.Identity) *Attempt {
	attempt := c.NewAttempt(ctx, method)
	attempt.asks, attempt.identity = true, of
	return attempt
}

var (
	// errReplaced is the error of a pick for an attempt that asks an instance which
	// another one has replaced at its address.
	errReplaced = status.Error(codes.Unavailable, "another instance is at the address now")
	// errUnnamed is the error of a pick for such an attempt if the instance at the
	// address does not name itself.
	errUnnamed = status.Error(codes.Unavailable, "the instance at the address does not say which one it is")
)

// place returns an error if the attempt must not be sent to an incarnation. settles is
// whether that one answers for others. a.mu is held.
func (a *Attempt) place(incarnation discovery.Incarnation, settles bool) error {
	switch {
	case !a.asks || settles || a.identity.Incarnation == incarnation:
		return nil
	case incarnation.IsZero():
		a.misplaced = true
		return errUnnamed
	default:
		a.misplaced, a.replaced = true, true
		return errReplaced
	}
}

// Misplaced reports whether an attempt of [Channel.Ask] was not sent because the
// instance at the address is not known to be the one that it asks. replaced says that
// it is another one.
func (a *Attempt) Misplaced() (misplaced, replaced bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.misplaced, a.replaced
}

// Identity returns the identity that the attempt got at its last pick. It is zero if
// there was none, or if the instance has no incarnation. It has a secret: see
// [atmostonce.Session].
func (a *Attempt) Identity() atmostonce.Identity {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.identity
}

// Conclude records what the bound instance answered when it was asked what became of
// the attempt. From then on it is the attempt's outcome.
func (a *Attempt) Conclude(outcome atmostonce.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.left, a.picked, a.outcome = true, false, outcome
}
