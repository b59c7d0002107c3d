package resolver

import (
	"cmp"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/instanceset"
)

// instances are those of one API: what the registry has, what it has lost, and which of
// both are in use. The resolver's lock must be held.
type instances struct {
	config Config
	notes  *notes
	// recheck schedules another selection.
	recheck func()
	// trackConnectivity says that the selection depends on which instances can be
	// connected to.
	trackConnectivity atomic.Bool

	// silent says that a connection has to be replaced.
	silent atomic.Bool

	// latest is the registry's latest view; nil before the first.
	latest *instanceset.View
	// lost are the instances that vanished and had not drained, by address.
	lost map[string]*lost
	// candidates may be in use, sorted by address; used are those that are, and
	// endpoints are theirs.
	candidates, used []*candidate
	endpoints        []resolver.Endpoint
	// renewed says that an instance in use has a new endpoint.
	renewed bool
	// wanted is the memory for selectEndpoints, which each selection uses again.
	wanted []*discovery.Instance
}

// lost is an instance that the registry no longer has.
type lost struct {
	*candidate

	at time.Time
	// retained says that it stays in use.
	retained bool
}

// candidate is an instance that may be in use.
type candidate struct {
	instance     *discovery.Instance
	endpoint     resolver.Endpoint
	reachability *reachability
	// renewals counts how often its connection was replaced.
	renewals int
}

func newInstances(config Config, notes *notes) *instances {
	return &instances{config: config, notes: notes, lost: make(map[string]*lost)}
}

// applyView replaces what the registry has.
func (i *instances) applyView(view *instanceset.View, now time.Time) {
	i.latest = view
	present := view.List
	for _, before := range i.candidates { // both are sorted by address
		for len(present) > 0 && present[0] != before.instance && present[0].Address < before.instance.Address {
			present = present[1:]
		}
		if len(present) > 0 && (present[0] == before.instance || present[0].Address == before.instance.Address) {
			present = present[1:]
			continue
		}
		if address := before.instance.Address; i.lost[address] == nil {
			i.lost[address] = &lost{candidate: before, at: now}
		}
	}
	if len(i.lost) == 0 {
		return
	}
	for _, instance := range view.List {
		delete(i.lost, instance.Address) // back, draining, or replaced
	}
}

// selection is which instances are in use.
type selection struct {
	endpoints []resolver.Endpoint
	// changed says that they are not the same as the last time.
	changed bool
	// unavailable is why there is none, and unreachable says that the registry cannot be
	// reached.
	unavailable error
	unreachable bool
	// pending says that there is none because Accept does not know yet.
	pending bool
	// next is after what time all this may change by itself; 0 is never.
	next time.Duration
}

// selectEndpoints decides which instances to use.
func (i *instances) selectEndpoints(now time.Time) (out selection) {
	i.trackConnectivity.Store(i.config.Zone != "" || len(i.lost) > 0) // before the connectivity is read
	out.next = i.retain(now)
	wanted := i.wanted[:0]
	var refused error
	want := func(instance *discovery.Instance) {
		if err := i.config.Accept(*instance, i.recheck); err != nil {
			if refused == nil || errors.Is(refused, ErrPending) {
				refused = err
			}
			return
		}
		wanted = append(wanted, instance)
	}
	for _, instance := range i.latest.List {
		if instance.State != discovery.Draining {
			want(instance)
		}
	}
	retained := false
	for _, gone := range i.lost {
		if gone.retained {
			want(gone.instance)
			retained = true
		}
	}
	if retained {
		slices.SortFunc(wanted, func(a, b *discovery.Instance) int { return cmp.Compare(a.Address, b.Address) })
	}
	i.buildCandidates(wanted)
	clear(wanted) // so that instances that are gone can be freed
	i.wanted = wanted
	i.renewSilent()
	out.changed = i.commit(i.preferred())
	out.endpoints = i.endpoints
	switch {
	case len(i.used) > 0:
	case refused != nil:
		out.unavailable = refused
		out.pending = errors.Is(refused, ErrPending)
	default:
		out.unavailable = i.latest.Snapshot().Err()
		out.unreachable = i.latest.Rest.Unreachable != nil
	}
	return out
}

// retain decides which of the lost instances stay in use, and forgets those that have
// ended. next is after what time to decide again; 0 is never.
func (i *instances) retain(now time.Time) (next time.Duration) {
	if len(i.lost) == 0 {
		return 0
	}
	before, present := i.retained(), i.present()
	most := len(i.lost) > present
	until := func(end time.Time) bool { // whether end has come
		left := end.Sub(now)
		if left > 0 && (next == 0 || left < next) {
			next = left
		}
		return left <= 0
	}
	for address, gone := range i.lost {
		since := gone.reachability.unreachable()
		if most {
			i.retainIfReachable(gone, since, now)
		}
		switch {
		case !since.IsZero() && until(since.Add(Grace)):
			delete(i.lost, address)
		case !gone.retained && until(gone.at.Add(VanishWindow)):
			delete(i.lost, address)
		}
	}
	if retained := i.retained(); before == 0 && retained > 0 {
		i.notes.add(note{
			slog.LevelWarn, "most instances vanished from the registry without having drained; they stay in use while they can be connected to",
			"", func() []any { return []any{"vanished", retained, "left", present} },
		})
	}
	return next
}

// retainIfReachable keeps a lost instance in use, unless it has been unreachable for some
// time. It replaces the connection: the present one proves nothing, since a connection to
// a silent host stays for a quarter of an hour.
func (i *instances) retainIfReachable(gone *lost, since, now time.Time) {
	if gone.retained || !since.IsZero() && now.Sub(since) >= Flap {
		return
	}
	gone.retained = true
	i.renew(gone.candidate)
}

// present counts the instances that the registry has and that do not drain.
func (i *instances) present() (present int) {
	for _, instance := range i.latest.List {
		if instance.State != discovery.Draining {
			present++
		}
	}
	return present
}

// connectivityChanged is called when an instance can be connected to, or no longer. The
// resolver's lock need not be held.
func (i *instances) connectivityChanged() {
	if i.trackConnectivity.Load() {
		i.recheck()
	}
}

// renewSilent replaces the connections on which nothing is answered.
func (i *instances) renewSilent() {
	if !i.silent.Swap(false) {
		return
	}
	for _, c := range i.candidates {
		if c.reachability.takeSilent() {
			i.renew(c)
		}
	}
}

// retained counts the lost instances that stay in use.
func (i *instances) retained() (retained int) {
	for _, gone := range i.lost {
		if gone.retained {
			retained++
		}
	}
	return retained
}

// buildCandidates makes candidates of the wanted instances, which are sorted by address. A
// candidate of an unchanged instance stays the same value, so that grpc-go keeps its
// connection.
func (i *instances) buildCandidates(wanted []*discovery.Instance) {
	candidates := make([]*candidate, len(wanted))
	left := i.candidates // that are not compared yet
	for n, instance := range wanted {
		if len(left) > 0 && left[0].instance == instance { // nearly all, so nothing else is read or written for it
			candidates[n], left = left[0], left[1:]
			continue
		}
		for len(left) > 0 && left[0].instance.Address < instance.Address {
			i.noteGone(left[0])
			left = left[1:]
		}
		before := i.before(instance, left)
		if len(left) > 0 && left[0].instance.Address == instance.Address {
			left = left[1:]
		}
		if before != nil && *before.instance == *instance {
			before.instance = instance // which the next view has too
			candidates[n] = before
			continue
		}
		candidates[n] = &candidate{instance: instance}
		if before != nil {
			candidates[n].renewals, candidates[n].reachability = before.renewals, before.reachability
		}
		i.setEndpoint(candidates[n])
	}
	for _, gone := range left {
		i.noteGone(gone)
	}
	i.candidates = candidates
}

// noteGone logs that a candidate is gone.
func (i *instances) noteGone(gone *candidate) {
	address := gone.instance.Address
	draining := slices.ContainsFunc(i.latest.List, func(present *discovery.Instance) bool {
		return present.Address == address && present.State == discovery.Draining
	})
	i.notes.add(note{slog.LevelInfo, "an instance is gone", address, func() []any { return []any{"drained", draining} }})
}

// before returns the candidate of an instance, also of one that was lost; nil if it is new.
// The first of left has its address if any has.
func (i *instances) before(instance *discovery.Instance, left []*candidate) *candidate {
	if gone := i.lost[instance.Address]; gone != nil && gone.instance == instance {
		return gone.candidate
	}
	if len(left) > 0 && left[0].instance.Address == instance.Address && left[0].instance.Incarnation == instance.Incarnation {
		return left[0]
	}
	return nil
}

// renew has grpc-go replace the connection of a candidate.
func (i *instances) renew(c *candidate) {
	c.renewals++
	i.setEndpoint(c)
	i.renewed = true
}

type (
	incarnationKey struct{}
	renewalsKey    struct{}
)

// setEndpoint sets the endpoint of a candidate, and its reachability if it has none.
// grpc-go keeps one connection for each address with its attributes. They include the
// incarnation and the number of renewals, so that another instance at the same address,
// and a renewed one, have connections of their own. No attribute says what name a caller
// checks in a certificate.
func (i *instances) setEndpoint(c *candidate) {
	if c.reachability == nil {
		c.reachability = &reachability{address: c.instance.Address, instances: i}
	}
	address := i.config.Attach(resolver.Address{Addr: c.instance.Address}, *c.instance, Observer{c.reachability})
	address.Attributes = address.Attributes.WithValue(incarnationKey{}, c.instance.Incarnation).WithValue(renewalsKey{}, c.renewals)
	c.endpoint = resolver.Endpoint{Addresses: []resolver.Address{address}}
}

// preferred returns the candidates to use: those of the caller's zone while one of them
// can be connected to, else all.
func (i *instances) preferred() []*candidate {
	if i.config.Zone == "" {
		return i.candidates
	}
	var near []*candidate
	reachable := false
	for _, c := range i.candidates {
		if c.instance.Zone == i.config.Zone {
			near = append(near, c)
			reachable = reachable || c.reachability.unreachable().IsZero()
		}
	}
	if !reachable {
		return i.candidates
	}
	for _, c := range i.candidates {
		if c.instance.Zone != i.config.Zone && c.reachability.tried() { // while it is unused, its state becomes stale
			c.reachability = nil
			i.setEndpoint(c)
		}
	}
	return near
}

// commit puts candidates in use, and reports whether that changed anything.
func (i *instances) commit(used []*candidate) (changed bool) {
	changed = i.renewed || !slices.Equal(used, i.used)
	i.used, i.renewed = used, false
	if changed {
		i.endpoints = make([]resolver.Endpoint, len(used))
		for n := range used {
			i.endpoints[n] = used[n].endpoint
		}
	}
	return changed
}
