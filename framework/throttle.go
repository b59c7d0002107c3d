package framework

import "sync/atomic"

// throttle bounds how many calls that may have run are retried, as the retry
// throttle of gRFC A6 does: each reply adds a token, and each retry takes ten.
// Its methods are safe for all goroutines.
type throttle struct{ tokens atomic.Int64 }

const (
	// retryTokens is what one retry takes: 10 % of the calls may be retried.
	retryTokens = 10
	// maxTokens is how many replies count as recent.
	maxTokens = 1000
	// firstTokens is what a bus begins with, so that the first calls of a program
	// can be retried.
	firstTokens = 100
)

// start sets what a bus begins with.
func (t *throttle) start() { t.tokens.Store(firstTokens) }

// succeeded adds the token of a reply.
func (t *throttle) succeeded() {
	if tokens := t.tokens.Load(); tokens < maxTokens {
		t.tokens.CompareAndSwap(tokens, tokens+1) // one that is lost in a race is not missed
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
