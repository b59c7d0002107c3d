package client

import (
	"context"
	"math/rand/v2"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/inprocess"
)

// link is a connection to an instance in this process, and the incarnation of that.
type link struct {
	*inprocess.Link

	to discovery.Incarnation
}

// UseLink lets the attempt take a link instead of the connection, if its channel has one to
// an instance in this process: see [Channel.Links]. The attempt needs the deadline of the
// call, which grpc-go does not set: see [Attempt.Limit]. Call it before the attempt is sent.
func (a *Attempt) UseLink() { a.usesLink = true }

// HasLink reports whether the channel has a link to an instance in this process that a call
// of a method may take.
func (c *Channel) HasLink(method string) bool { return c.linked(method) != nil }

// Close ends the calls over links. The channel makes no more calls.
func (c *Channel) Close() { c.end() }

// linked returns a connection with a link whose instance serves, is not known to lack a
// method, and has not refused the last call. It returns nil if there is none.
func (c *Channel) linked(method string) *boundSubConn {
	all := c.links.Load()
	if all == nil {
		return nil
	}
	first := 0
	if len(*all) > 1 {
		first = rand.IntN(len(*all))
	}
	for i := range *all {
		if bound := (*all)[(first+i)%len(*all)]; !bound.penalty.failing.Load() && !bound.lacks(method) {
			return bound
		}
	}
	return nil
}

// setLinked adds a connection to those with a link that may be used, or removes it.
func (c *Channel) setLinked(bound *boundSubConn, usable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []*boundSubConn
	if before := c.links.Load(); before != nil {
		all = *before
	}
	if slices.Contains(all, bound) == usable {
		return
	}
	if usable {
		all = append(slices.Clone(all), bound)
	} else {
		all = slices.DeleteFunc(slices.Clone(all), func(other *boundSubConn) bool { return other == bound })
	}
	if len(all) == 0 {
		c.links.Store(nil)
		return
	}
	c.links.Store(&all)
}

// mayUseLink returns the connection whose link an attempt takes, and that link. It returns
// nil if there is none, or the attempt must not be sent: then the pick says why.
func (c *Channel) mayUseLink(attempt *Attempt, method string) (*boundSubConn, *link) {
	if attempt == nil || !attempt.usesLink || attempt.check(c.id, method) != nil {
		return nil, nil
	}
	bound := c.linked(method)
	if bound == nil {
		return nil, nil
	}
	return bound, bound.link.Load()
}

// overLink makes a unary call over a link, if it may, and reports whether it did.
func (c *Channel) overLink(ctx context.Context, attempt *Attempt, method string, request, reply any, caller inprocess.Caller) (taken bool, err error) {
	bound, link := c.mayUseLink(attempt, method)
	if link == nil {
		return false, nil
	}
	call := link.Unary(ctx, method, request, caller)
	if call == nil {
		return false, nil
	}
	identity, err := attempt.bind(bound, link.to, nil, nil)
	if err != nil {
		call.Drop(err)
		return true, err
	}
	within, deadline := attempt.bounds(ctx)
	return true, call.Invoke(within, deadline, pairOf(identity), reply, attempt.done)
}

// streamOverLink begins a stream over a link, if it may. Otherwise it returns nil.
func (c *Channel) streamOverLink(ctx context.Context, attempt *Attempt, desc *grpc.StreamDesc, method string, caller inprocess.Caller) (grpc.ClientStream, error) {
	bound, link := c.mayUseLink(attempt, method)
	if link == nil {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	stream := link.Stream(ctx, desc, method, caller)
	if stream == nil {
		return nil, nil //nolint:nilnil // the same
	}
	identity, err := attempt.bind(bound, link.to, nil, nil)
	if err != nil {
		stream.Drop(err)
		return nil, err
	}
	stream.Begin(ctx, pairOf(identity), attempt.done)
	return stream, nil
}

// pairOf returns the metadata with an identity, nil for none, as a link sends it.
func pairOf(identity metadata.MD) inprocess.Pair {
	if values := identity[atmostonce.CallKey]; len(values) > 0 {
		return inprocess.Pair{Key: atmostonce.CallKey, Value: values[0]}
	}
	return inprocess.Pair{}
}
