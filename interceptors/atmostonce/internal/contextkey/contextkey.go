// Package contextkey finds keys of contexts that other packages do not export.
package contextkey

import "context"

// probe is a context that records the key that is looked up in it.
type probe struct {
	context.Context //nolint:containedctx // it is one

	key any
}

// Value implements [context.Context].
func (p *probe) Value(key any) any {
	p.key = key
	return nil
}

// Of returns the context key that read looks up, in a context that has ended.
func Of(read func(context.Context)) any {
	ended, cancel := context.WithCancel(context.Background())
	cancel() // [context.Cause] looks nothing up in a context that has not ended
	found := &probe{Context: ended}
	read(found)
	return found.key
}
