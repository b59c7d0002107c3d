package client

import (
	"sync/atomic"
)

// throttle limits how many calls are retried, as the retry throttle of gRFC A6 does: each
// reply adds a token, and each retry takes ten. A bus has one for calls that may have run,
// and one of each API for calls that were shed. Its methods are safe for all goroutines.
type throttle struct{ tokens atomic.Int64 }

const (
	// retryTokens is how many tokens one retry takes, so 10 % of the calls may be
	// retried.
	retryTokens = 10
	// maxTokens is how many tokens the throttle has at most.
	maxTokens = 1000
	// firstTokens is how many tokens a throttle has at first, so that the first calls of a
	// program can be retried.
	firstTokens = 100
)

// start sets the tokens that a throttle has at first.
func (t *throttle) start() { t.tokens.Store(firstTokens) }

// succeeded adds the token of a reply.
func (t *throttle) succeeded() {
	if tokens := t.tokens.Load(); tokens < maxTokens {
		t.tokens.CompareAndSwap(tokens, tokens+1) // it does not matter if a race loses a token
	}
}

// take takes the tokens of a retry, if there are enough.
func (t *throttle) take() bool {
	for {
		tokens := t.tokens.Load()
		if tokens < retryTokens {
			return false
		}
		if t.tokens.CompareAndSwap(tokens, tokens-retryTokens) {
			return true
		}
	}
}
