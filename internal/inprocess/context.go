package inprocess

import (
	"context"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/internal/contextkey"
)

// Pair is a key of metadata and its value. There is none if the key is "".
type Pair struct{ Key, Value string }

// endless is a context with the values of another one, and without its end. It is
// [context.WithoutCancel] that looks values up without an allocation.
type endless struct {
	context.Context //nolint:containedctx // it has no end

	values context.Context //nolint:containedctx // of which nothing else is used
}

// Value implements [context.Context].
func (e *endless) Value(key any) any {
	if key == contextkey.Cause {
		return nil
	}
	return e.values.Value(key)
}

// arrival is the context from which the context of a handler derives. It has the values of
// the connection and those of the call, and none of the caller's context. It does not end.
type arrival struct {
	context.Context //nolint:containedctx // the values of the connection

	call *call
	// key and value are what the caller's end adds to the metadata of the call, unless key
	// is "".
	key   string
	value [1]string

	reading sync.Mutex  // guards the field below
	read    metadata.MD // the metadata that arrives, nil until it is read
}

// begin sets what the context has.
func (a *arrival) begin(c *call, own Pair) {
	a.Context, a.call, a.key, a.value[0] = c.link.values, c, own.Key, own.Value
}

// Value implements [context.Context].
func (a *arrival) Value(key any) any {
	switch key {
	case contextkey.Incoming:
		return a.incoming()
	case contextkey.Stream:
		return a.call
	default:
		return a.Context.Value(key)
	}
}

// incoming returns the metadata that arrives.
func (a *arrival) incoming() metadata.MD {
	a.reading.Lock()
	defer a.reading.Unlock()
	if a.read == nil {
		a.read = arriving(a.call.link.base, a.call.caller.Metadata, Pair{a.key, a.value[0]})
	}
	return a.read
}

// Incoming returns the values of a key of the metadata that arrives, nil if there are none.
// They must not be changed. It spares most calls the making of all metadata.
func (a *arrival) Incoming(key string) []string {
	onlyOwn := key == a.key && len(a.call.caller.Metadata[key]) == 0 &&
		!slices.ContainsFunc(a.call.link.base, func(e entry) bool { return e.key == key })
	if onlyOwn {
		return a.value[:]
	}
	return a.incoming()[key]
}

// canceling ends a context that package context made.
type canceling context.CancelFunc

func (c canceling) end() { c() }

// handling is the context of the handler of a unary call. Few handlers wait for the end of
// their context, so what can be waited for is made when one does.
type handling struct {
	arrival

	deadline time.Time // the zero value if there is none

	mu sync.Mutex // guards the fields below
	// err is why the context has ended. ending ends with it, and is nil until it is needed.
	err    error
	ending context.Context //nolint:containedctx // it is the end of this one
	cancel context.CancelFunc
}

// Deadline implements [context.Context]. The context has ended by then, by its caller.
func (h *handling) Deadline() (deadline time.Time, ok bool) {
	return h.deadline, !h.deadline.IsZero()
}

// Done implements [context.Context].
func (h *handling) Done() <-chan struct{} { return h.waitable().Done() }

// Err implements [context.Context].
func (h *handling) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// Value implements [context.Context].
func (h *handling) Value(key any) any {
	if key == contextkey.Cause { // contexts that derive from this one join it by this key
		return h.waitable().Value(key)
	}
	return h.arrival.Value(key)
}

// waitable returns a context that ends with this one, and has no values.
func (h *handling) waitable() context.Context {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending == nil {
		h.ending, h.cancel = context.WithCancel(context.Background())
		if h.err != nil {
			h.cancel()
		}
	}
	return h.ending
}

// end ends the context.
func (h *handling) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = context.Canceled
		if h.cancel != nil {
			h.cancel()
		}
	}
}

// readable reports whether grpc-go finds the values of a call where arrival has them.
func readable() bool {
	probe := &call{link: &Link{values: context.Background()}}
	ctx := new(arrival)
	ctx.begin(probe, Pair{"key", "value"})
	return slices.Equal(metadata.ValueFromIncomingContext(ctx, "key"), []string{"value"}) && grpc.ServerTransportStreamFromContext(ctx) == probe
}
