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
)

// instances are those of one API: what the registry tells of, what it lost, and
// which of both are in use. Whoever uses them holds the resolver's lock.
type instances struct {
	config Config
	notes  *notes
	again  func()
	// attentive is whether it matters which instances can be connected to.
	attentive atomic.Bool

	// snapshot is what the registry told last; nil before it did.
	snapshot *discovery.Snapshot
	// lost are the instances that vanished without having drained, by address.
	lost map[string]*lost
	// candidates are those that may be in use, by address; used are those of
	// them that are, and endpoints are theirs.
	candidates, used []*candidate
	endpoints        []resolver.Endpoint
	// renewed says that an instance in use has another endpoint than before.
	renewed bool
}

// lost is an instance that the registry no longer tells of.
type lost struct {
	*candidate

	at time.Time
	// kept is whether it is in use all the same.
	kept bool
}

// candidate is an instance that may be in use.
type candidate struct {
	instance *discovery.Instance
	endpoint resolver.Endpoint
	reach    *reach
	// renewals counts how often there was to be another connection.
	renewals int
}

func newInstances(config Config, notes *notes) *instances {
	return &instances{config: config, notes: notes, lost: make(map[string]*lost)}
}

// known tells whether the registry has told anything.
func (i *instances) known() bool { return i.snapshot != nil }

// take takes in what the registry tells.
func (i *instances) take(snapshot discovery.Snapshot, now time.Time) {
	i.snapshot = &snapshot
	present := snapshot.Instances
	for _, before := range i.candidates { // both are sorted by address
		address := before.instance.Address
		for len(present) > 0 && present[0].Address < address {
			present = present[1:]
		}
		if len(present) > 0 && present[0].Address == address {
			continue
		}
		if i.lost[address] == nil {
			i.lost[address] = &lost{candidate: before, at: now}
		}
	}
	if len(i.lost) == 0 {
		return
	}
	for _, instance := range snapshot.Instances {
		delete(i.lost, instance.Address) // back, draining, or replaced
	}
}

// found is which instances are in use.
type found struct {
	endpoints []resolver.Endpoint
	// changed is whether they are others than the last time.
	changed bool
	// problem is why there is none, and unreachable whether that is because the
	// registry can't be asked.
	problem     error
	unreachable bool
	// pending is whether there is none because that is being found out.
	pending bool
	// next is after what time all this may change by itself; 0 is never.
	next time.Duration
}

// use decides which instances to use.
func (i *instances) use(now time.Time) (out found) {
	i.attentive.Store(i.config.Zone != "" || len(i.lost) > 0) // before what can be connected to is looked at
	out.next = i.keep(now)
	wanted := make([]*discovery.Instance, 0, len(i.snapshot.Instances)+len(i.lost))
	var refused error
	want := func(instance *discovery.Instance) {
		if err := i.config.Accept(*instance, i.again); err != nil {
			if refused == nil || errors.Is(refused, ErrPending) {
				refused = err
			}
			return
		}
		wanted = append(wanted, instance)
	}
	for n := range i.snapshot.Instances {
		if instance := &i.snapshot.Instances[n]; instance.State != discovery.Draining {
			want(instance)
		}
	}
	kept := false
	for _, gone := range i.lost {
		if gone.kept {
			want(gone.instance)
			kept = true
		}
	}
	if kept {
		slices.SortFunc(wanted, func(a, b *discovery.Instance) int { return cmp.Compare(a.Address, b.Address) })
	}
	i.consider(wanted)
	i.renewSilent()
	out.changed = i.settle(i.preferred())
	out.endpoints = i.endpoints
	switch {
	case len(i.used) > 0:
	case refused != nil:
		out.problem = refused
		out.pending = errors.Is(refused, ErrPending)
	default:
		out.problem = i.snapshot.Err()
		out.unreachable = i.snapshot.Unreachable != nil
	}
	return out
}

// keep decides which of the lost instances stay in use, and forgets those that
// are gone for good.
func (i *instances) keep(now time.Time) (next time.Duration) {
	if len(i.lost) == 0 {
		return 0
	}
	before, present := i.kept(), i.present()
	most := len(i.lost) > present
	until := func(end time.Time) bool { // whether end has come
		left := end.Sub(now)
		if left > 0 && (next == 0 || left < next) {
			next = left
		}
		return left <= 0
	}
	for address, gone := range i.lost {
		since := gone.reach.unreachable()
		if most {
			i.renewed = gone.keep(since, now) || i.renewed
		}
		switch {
		case !since.IsZero() && until(since.Add(Grace)):
			delete(i.lost, address)
		case !gone.kept && until(gone.at.Add(VanishWindow)):
			delete(i.lost, address)
		}
	}
	if kept := i.kept(); before == 0 && kept > 0 {
		i.notes.add(note{
			slog.LevelWarn, "most instances vanished from the registry without having drained; they stay in use while they can be connected to",
			"", func() []any { return []any{"vanished", kept, "left", present} },
		})
	}
	return next
}

// keep has the instance stay in use, unless it could not be connected to since
// some time, and tells whether that is new. The connection that there is proves
// nothing, since one to a host that is silent stays for a quarter of an hour, so
// there is to be another.
func (l *lost) keep(since, now time.Time) (renewed bool) {
	if l.kept || !since.IsZero() && now.Sub(since) >= Flap {
		return false
	}
	l.kept = true
	l.renewals++
	l.connectBy(l.reach)
	return true
}

// present counts the instances that the registry tells of and that serve.
func (i *instances) present() (present int) {
	for n := range i.snapshot.Instances {
		if i.snapshot.Instances[n].State != discovery.Draining {
			present++
		}
	}
	return present
}

// reached is told when an instance can be connected to, or no longer.
func (i *instances) reached() {
	if i.attentive.Load() {
		i.again()
	}
}

func (i *instances) newReach(instance *discovery.Instance) *reach {
	return &reach{address: instance.Address, changed: i.reached, again: i.again, note: i.notes.add, connection: i.config.Connection}
}

// renewSilent has the candidates on whose connection nothing is answered connect
// anew.
func (i *instances) renewSilent() {
	for _, c := range i.candidates {
		if c.reach.takeSilent() {
			c.renewals++
			c.connectBy(c.reach)
			i.renewed = true
		}
	}
}

// kept counts the lost instances that stay in use.
func (i *instances) kept() (kept int) {
	for _, gone := range i.lost {
		if gone.kept {
			kept++
		}
	}
	return kept
}

// consider makes the wanted instances the candidates. What stays as it was stays
// the same value, so that grpc-go keeps its connection, and an event costs the
// same however many there are.
func (i *instances) consider(wanted []*discovery.Instance) {
	candidates := make([]*candidate, len(wanted))
	for n, instance := range wanted {
		before := i.find(instance)
		if before != nil && *before.instance == *instance {
			candidates[n] = before
			continue
		}
		own := *instance // the snapshot's own may go
		candidates[n] = &candidate{instance: &own}
		if before != nil {
			candidates[n].renewals = before.renewals
			candidates[n].connectBy(before.reach)
		} else {
			candidates[n].connectBy(i.newReach(instance))
		}
	}
	i.noteGone(candidates)
	i.candidates = candidates
}

// noteGone has it logged which candidates there are no more.
func (i *instances) noteGone(left []*candidate) {
	for _, before := range i.candidates {
		address := before.instance.Address
		_, stays := slices.BinarySearchFunc(left, address, func(c *candidate, address string) int {
			return cmp.Compare(c.instance.Address, address)
		})
		if stays {
			continue
		}
		draining := slices.ContainsFunc(i.snapshot.Instances, func(present discovery.Instance) bool {
			return present.Address == address && present.State == discovery.Draining
		})
		i.notes.add(note{slog.LevelInfo, "an instance is gone", address, func() []any { return []any{"drained", draining} }})
	}
}

// find gives the candidate that an instance is, or was until it was lost; nil if
// it is new.
func (i *instances) find(instance *discovery.Instance) *candidate {
	if gone := i.lost[instance.Address]; gone != nil && gone.instance == instance {
		return gone.candidate
	}
	n, found := slices.BinarySearchFunc(i.candidates, instance.Address, func(c *candidate, address string) int {
		return cmp.Compare(c.instance.Address, address)
	})
	if found && i.candidates[n].instance.Incarnation == instance.Incarnation {
		return i.candidates[n]
	}
	return nil
}

func (c *candidate) connectBy(reached *reach) {
	c.reach, c.endpoint = reached, endpointOf(c.instance, reached, c.renewals)
}

// preferred gives the candidates to use: those of the caller's zone while one of
// them can be connected to, else all.
func (i *instances) preferred() []*candidate {
	if i.config.Zone == "" {
		return i.candidates
	}
	var near []*candidate
	reachable := false
	for _, c := range i.candidates {
		if c.instance.Zone == i.config.Zone {
			near = append(near, c)
			reachable = reachable || c.reach.unreachable().IsZero()
		}
	}
	if !reachable {
		return i.candidates
	}
	for _, c := range i.candidates {
		if c.instance.Zone != i.config.Zone && c.reach.tried() { // what is known of it gets old
			c.connectBy(i.newReach(c.instance))
		}
	}
	return near
}

// settle puts candidates in use, and tells whether that changed anything.
func (i *instances) settle(used []*candidate) (changed bool) {
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
