package inprocess

import (
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// OfferKey is the metadata key of an [Offer]. A call with it runs no code of a program but a
// health service of its own.
const OfferKey = "onecall-offer"

// offers are those that were neither withdrawn nor linked, by their random names. A name
// means nothing in another process.
var offers sync.Map // of *Offer

// Offer offers a server in this process to leave the network out. A caller sends it with a
// call over the connection that is meant. Its methods are safe for all goroutines.
type Offer struct {
	name string
	// taken is what the server knows of the connection, nil until it has the offer.
	taken atomic.Pointer[taken]
}

// taken is an offer that a server has taken.
type taken struct {
	server *Server
	// values is the context of the call with which the offer came, without its end.
	values context.Context //nolint:containedctx // later calls on the connection have its values
}

// NewOffer returns an offer. The caller must call Withdraw. A nil offer offers nothing.
func NewOffer() *Offer {
	o := &Offer{name: rand.Text()}
	offers.Store(o.name, o)
	return o
}

// Context returns a context with which to send the offer.
func (o *Offer) Context(ctx context.Context) context.Context {
	if o == nil {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, OfferKey, o.name)
}

// Withdraw ends the offer.
func (o *Offer) Withdraw() {
	if o != nil {
		offers.Delete(o.name)
	}
}

// Take takes the offer of a call, if it has one and the offer is of this process. ctx is the
// context of the call as grpc-go made it.
func (s *Server) Take(ctx context.Context) {
	if s == nil {
		return
	}
	names := metadata.ValueFromIncomingContext(ctx, OfferKey)
	if len(names) != 1 {
		return
	}
	if found, ok := offers.Load(names[0]); ok {
		if offer, ok := found.(*Offer); ok {
			offer.taken.Store(&taken{server: s, values: &endless{context.Background(), ctx}})
		}
	}
}

// Link returns the link to the server that has taken the offer. It is nil if none has, or if
// something may be between the two ends, such as a proxy. ctx is the caller's context of the
// stream with which the offer was sent, once its header has arrived.
func (o *Offer) Link(ctx context.Context) *Link {
	if o == nil {
		return nil
	}
	at := o.taken.Load()
	if at == nil {
		return nil
	}
	here, ok := peer.FromContext(ctx)
	there, found := peer.FromContext(at.values)
	if !ok || !found || !direct(here, there) {
		return nil
	}
	base, _ := metadata.FromIncomingContext(at.values)
	delete(base, OfferKey)
	return &Link{server: at.server, values: at.values, base: entries(base), peer: *here}
}

// direct reports whether two peers are the two ends of one connection: each has the address
// that the other one sees. A proxy has a connection of its own to the server, and listens
// elsewhere. The connecting end of a unix socket has no address, and the path of the other
// one is enough: the dialer has found there the socket that is the server's. Addresses of
// other networks prove nothing, such as those of memory, which are all equal.
func direct(caller, server *peer.Peer) bool {
	if to, ok := caller.Addr.(*net.UnixAddr); ok {
		at, ok := server.LocalAddr.(*net.UnixAddr)
		return ok && at.Name == to.Name && to.Name != ""
	}
	return same(caller.Addr, server.LocalAddr) && same(caller.LocalAddr, server.Addr)
}

// same reports whether two addresses are equal, and of TCP.
func same(a, b net.Addr) bool {
	first, second := tcp(a), tcp(b)
	return first.IsValid() && first == second
}

// tcp returns a TCP address, the zero value for all others.
func tcp(address net.Addr) netip.AddrPort {
	at, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	whole := at.AddrPort()
	return netip.AddrPortFrom(whole.Addr().Unmap(), whole.Port())
}
