package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// maxLanes is how many incarnations one session counts for. Incarnations that
// have ended never come back, but no event says when; a new session starts with
// none.
const maxLanes = 4096

// mostDigits is the length of the longest sequence number.
const mostDigits = len("18446744073709551615")

// Caller is a bus's half of all identities: its session, and a lane for each
// incarnation. It outlives connections and balancers, which grpc-go throws away
// when they are idle. Its methods are safe for all goroutines.
type Caller struct {
	now     func() time.Time
	mu      sync.Mutex // held while session is replaced, or its lanes are
	session atomic.Pointer[callerSession]
}

// Channel is the calls that one grpc.ClientConn makes for a caller. Its methods
// are safe for all goroutines.
type Channel struct {
	// WithoutIdentity, if it is set before the first call, is called once, with the
	// address of the first instance that a call is sent to without an identity,
	// because the instance has no incarnation. It holds that call up.
	WithoutIdentity func(address string)

	caller *Caller
	id     uint64
	// anonymous is whether WithoutIdentity was called.
	anonymous atomic.Bool
}

// noteAnonymous notes that a call is sent to an address without an identity.
func (c *Channel) noteAnonymous(address string) {
	if c.WithoutIdentity != nil && !c.anonymous.Load() && !c.anonymous.Swap(true) {
		c.WithoutIdentity(address)
	}
}

// NewChannel returns a channel. The connection's policy is configured with its
// ID: see [PolicyName].
func (c *Caller) NewChannel() *Channel {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: see crypto/rand
	return &Channel{caller: c, id: binary.BigEndian.Uint64(id[:])}
}

// ID is the channel's in the configuration of its policy. It is random.
func (c *Channel) ID() uint64 { return c.id }

// NewAttempt returns the attempt of a call that is about to be issued, with ctx
// as its context. method is gRPC's path.
func (c *Channel) NewAttempt(ctx context.Context, method string) *Attempt {
	return &Attempt{Context: ctx, channel: c, method: method, made: c.caller.now()}
}

// callerSession is a session and its lanes, which are never changed but
// replaced.
type callerSession struct {
	id    atmostonce.Session
	lanes atomic.Pointer[map[discovery.Incarnation]*lane]
}

// NewCaller returns a caller with a session of its own.
func NewCaller() *Caller { return newCaller(time.Now) }

func newCaller(now func() time.Time) *Caller {
	c := &Caller{now: now}
	c.session.Store(c.newSession())
	return c
}

func (c *Caller) newSession() *callerSession {
	session := &callerSession{id: atmostonce.NewSession(c.now())}
	session.lanes.Store(&map[discovery.Incarnation]*lane{})
	return session
}

// identify returns the next identity of a call to an incarnation, the counter
// that must know when the call has ended, and the value on the wire.
func (c *Caller) identify(incarnation discovery.Incarnation) (atmostonce.Identity, *counter, string) {
	found, ok := (*c.session.Load().lanes.Load())[incarnation]
	if !ok {
		found = c.addLane(incarnation)
	}
	drawn, seq := found.draw()
	value := append(make([]byte, 0, len(drawn.prefix)+mostDigits), drawn.prefix...)
	return atmostonce.Identity{Incarnation: incarnation, Session: drawn.session, Seq: seq}, drawn, string(strconv.AppendUint(value, seq, 10))
}

// addLane makes the lane of an incarnation, in a new session when the present one
// has as many as it may.
func (c *Caller) addLane(incarnation discovery.Incarnation) *lane {
	c.mu.Lock()
	defer c.mu.Unlock()
	session := c.session.Load()
	lanes := *session.lanes.Load()
	if found, ok := lanes[incarnation]; ok {
		return found
	}
	if len(lanes) >= maxLanes {
		session = c.newSession()
		c.session.Store(session)
		lanes = *session.lanes.Load()
	}
	lanes = maps.Clone(lanes)
	added := newLane(incarnation, session.id, c.now)
	lanes[incarnation] = added
	session.lanes.Store(&lanes)
	return added
}

// renew opens a new session in place of the one of an identity, unless another
// call has done so since.
func (c *Caller) renew(expired atmostonce.Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	session := c.session.Load()
	if session.id == expired.Session {
		c.session.Store(c.newSession())
		return
	}
	if found, ok := (*session.lanes.Load())[expired.Incarnation]; ok {
		found.drop(expired.Session)
	}
}
