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

// maxLanes is how many incarnations one session has lanes for. No event says that an
// incarnation has ended, so lanes are only dropped together, with a new session.
const maxLanes = 4096

// longestValue is the length of the longest value of an identity: two ids of 22
// characters, two dots and a sequence number.
const longestValue = 22 + len(".") + 22 + len(".") + len("18446744073709551615")

// Caller makes the identities of a bus: it has the session, and a lane for each
// incarnation. It outlives connections and balancers, which grpc-go closes when they
// are idle. Its methods are safe for all goroutines. Its lock is taken before those
// of lanes.
type Caller struct {
	now     func() time.Time
	mu      sync.Mutex // held while session or its lanes are replaced
	session atomic.Pointer[callerSession]
}

// Channel makes the attempts that are sent on one grpc.ClientConn. Its methods are
// safe for all goroutines.
type Channel struct {
	// WithoutIdentity, if it is set before the first call, is called once: when a call
	// is sent without an identity, because the instance at address has no
	// incarnation. That call waits for it.
	WithoutIdentity func(address string)
	// Links, if it is set before the first call, says that the channel finds out which of
	// its instances are in this process, so that calls need no network. It is for
	// addresses of [Channel.WithInstance].
	Links bool

	// life ends with Close.
	life context.Context //nolint:containedctx // of a running thing
	end  context.CancelFunc

	mu sync.Mutex // held while links is replaced
	// links are the connections with a link that may be used, nil if there are none.
	links atomic.Pointer[[]*boundSubConn]

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

// NewChannel returns a channel. The policy of its grpc.ClientConn is configured with
// its ID: see [PolicyName].
func (c *Caller) NewChannel() *Channel {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails: see crypto/rand
	made := &Channel{caller: c, id: binary.BigEndian.Uint64(id[:])}
	made.life, made.end = context.WithCancel(context.Background())
	return made
}

// ID returns the channel's ID for the configuration of its policy. It is random.
func (c *Channel) ID() uint64 { return c.id }

// NewAttempt returns an attempt of a call, with ctx as its context. method is gRPC's
// path.
func (c *Channel) NewAttempt(ctx context.Context, method string) *Attempt {
	return &Attempt{Context: ctx, channel: c, method: method, made: c.caller.now()}
}

// callerSession is a session and its lanes. The map is replaced, never changed.
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

// identify returns an identity for an attempt to an incarnation, the counter whose end
// is to be called with its number, and its value on the wire.
func (c *Caller) identify(incarnation discovery.Incarnation) (atmostonce.Identity, *counter, string) {
	found, ok := (*c.session.Load().lanes.Load())[incarnation]
	if !ok {
		found = c.addLane(incarnation)
	}
	drawn, seq := found.draw()
	value := append(make([]byte, 0, longestValue), drawn.prefix...) // on the stack, for its size is constant
	return atmostonce.Identity{Incarnation: incarnation, Session: drawn.session, Seq: seq}, drawn, string(strconv.AppendUint(value, seq, 10))
}

// addLane adds the lane of an incarnation, in a new session if the current one has
// maxLanes.
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

// renew replaces the session of an identity by a new one, unless another call has
// done so.
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
