package atmostonce

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onecall-dev/onecall/discovery"
)

// maxCounters is how many incarnations one session counts for. Incarnations
// that have ended never come back, but nobody says when; a new session starts
// with none.
const maxCounters = 4096

// Caller is a bus's half of all identities: its session, and a counter for
// each incarnation. It outlives connections and balancers, which grpc-go throws
// away when they are idle. Its methods are safe for all goroutines.
type Caller struct {
	now     func() time.Time
	mu      sync.Mutex // held while session is replaced, or its counters are
	session atomic.Pointer[callerSession]
}

// Channel is the calls that one grpc.ClientConn makes for a caller. Its methods
// are safe for all goroutines.
type Channel struct {
	caller *Caller
	id     uint64
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

// NewRecord returns the record of a call that is about to be issued, with ctx
// as its context. method is gRPC's path.
func (c *Channel) NewRecord(ctx context.Context, method string) *Record {
	return &Record{Context: ctx, channel: c, method: method, made: c.caller.now()}
}

// callerSession is a session and its counters, which are never changed but
// replaced.
type callerSession struct {
	id       Session
	counters atomic.Pointer[map[discovery.Incarnation]*counter]
}

// counter numbers the calls of a session to an incarnation.
type counter struct {
	session Session
	// prefix is what the values of all its identities begin with.
	prefix string
	last   atomic.Uint64
}

// NewCaller returns a caller with a session of its own.
func NewCaller() *Caller { return newCaller(time.Now) }

func newCaller(now func() time.Time) *Caller {
	c := &Caller{now: now}
	c.session.Store(c.newSession())
	return c
}

func (c *Caller) newSession() *callerSession {
	session := &callerSession{id: NewSession(c.now())}
	session.counters.Store(&map[discovery.Incarnation]*counter{})
	return session
}

// identify gives the next identity of a call to an incarnation, and its value
// on the wire.
func (c *Caller) identify(incarnation discovery.Incarnation) (Identity, string) {
	found, ok := (*c.session.Load().counters.Load())[incarnation]
	if !ok {
		found = c.addCounter(incarnation)
	}
	identity := Identity{Incarnation: incarnation, Session: found.session, Seq: found.last.Add(1)}
	value := append(make([]byte, 0, maxValue), found.prefix...)
	return identity, string(strconv.AppendUint(value, identity.Seq, 10))
}

// addCounter makes the counter of an incarnation, in a new session when the
// present one has as many as it may.
func (c *Caller) addCounter(incarnation discovery.Incarnation) *counter {
	c.mu.Lock()
	defer c.mu.Unlock()
	session := c.session.Load()
	counters := *session.counters.Load()
	if found, ok := counters[incarnation]; ok {
		return found
	}
	if len(counters) >= maxCounters {
		session = c.newSession()
		c.session.Store(session)
		counters = *session.counters.Load()
	}
	counters = maps.Clone(counters)
	first := Identity{Incarnation: incarnation, Session: session.id}.Value()
	added := &counter{session: session.id, prefix: strings.TrimSuffix(first, "0")}
	counters[incarnation] = added
	session.counters.Store(&counters)
	return added
}

// renew opens a new session, unless another call has done so since expired
// was used.
func (c *Caller) renew(expired Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.Load().id == expired {
		c.session.Store(c.newSession())
	}
}
