package leastrequest_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/internal/leastrequest"
)

// fakeConn is grpc-go's side: its connections are READY at once.
type fakeConn struct {
	balancer.ClientConn

	state balancer.State
	conns map[string]*fakeSubConn
}

// NewSubConn implements [balancer.ClientConn].
func (c *fakeConn) NewSubConn(addresses []resolver.Address, options balancer.NewSubConnOptions) (balancer.SubConn, error) {
	made := &fakeSubConn{address: addresses[0].Addr, listener: options.StateListener}
	c.conns[made.address] = made
	return made, nil
}

// UpdateState implements [balancer.ClientConn].
func (c *fakeConn) UpdateState(state balancer.State) { c.state = state }

// ResolveNow implements [balancer.ClientConn].
func (c *fakeConn) ResolveNow(resolver.ResolveNowOptions) {}

// fakeSubConn is a connection to an address.
type fakeSubConn struct {
	balancer.SubConn

	address  string
	connects int
	listener func(balancer.SubConnState)
	health   func(balancer.SubConnState)
}

// Connect implements [balancer.SubConn].
func (c *fakeSubConn) Connect() { c.connects++ }

// Shutdown implements [balancer.SubConn].
func (c *fakeSubConn) Shutdown() {}

// RegisterHealthListener implements [balancer.SubConn].
func (c *fakeSubConn) RegisterHealthListener(listener func(balancer.SubConnState)) {
	c.health = listener
}

func (c *fakeSubConn) become(state connectivity.State) {
	c.listener(balancer.SubConnState{ConnectivityState: state})
}

// fixture is the policy with a number of instances.
type fixture struct {
	conn      *fakeConn
	policy    balancer.Balancer
	endpoints []resolver.Endpoint
}

func newFixture(tb testing.TB, instances int) *fixture {
	tb.Helper()
	f := &fixture{conn: &fakeConn{conns: make(map[string]*fakeSubConn)}}
	f.policy = balancer.Get(leastrequest.Name).Build(f.conn, balancer.BuildOptions{})
	tb.Cleanup(f.policy.Close)
	f.resolve(tb, instances)
	return f
}

// resolve updates the list of instances, and connects to those that are new.
func (f *fixture) resolve(tb testing.TB, instances int) {
	tb.Helper()
	for i := len(f.endpoints); i < instances; i++ {
		f.endpoints = append(f.endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: address(i)}}})
	}
	before := len(f.conn.conns)
	f.update(tb, instances)
	for i := before; i < instances; i++ {
		conn := f.conn.conns[address(i)]
		conn.become(connectivity.Connecting)
		conn.become(connectivity.Ready)
		conn.health(balancer.SubConnState{ConnectivityState: connectivity.Ready})
	}
}

// update passes the endpoints on.
func (f *fixture) update(tb testing.TB, instances int) {
	tb.Helper()
	state := resolver.State{Endpoints: slices.Clone(f.endpoints[:instances])}
	if err := f.policy.UpdateClientConnState(balancer.ClientConnState{ResolverState: state}); err != nil {
		tb.Fatal(err)
	}
}

func address(i int) string { return fmt.Sprint("instance-", i) }

// pick picks an instance, and returns its address and the end of the call.
func (f *fixture) pick(tb testing.TB) (string, func(balancer.DoneInfo)) {
	tb.Helper()
	result, err := f.conn.state.Picker.Pick(balancer.PickInfo{})
	if err != nil {
		tb.Fatal(err)
	}
	conn, ok := result.SubConn.(*fakeSubConn)
	if !ok {
		tb.Fatalf("the connection is a %T", result.SubConn)
	}
	return conn.address, result.Done
}

func TestCallsGoToTheInstanceWithTheFewest(t *testing.T) {
	t.Parallel()
	for _, instances := range []int{1, 2, 3, leastrequest.Choices} {
		t.Run(fmt.Sprint(instances, " instances"), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, instances)
			const each = 20
			counts := make(map[string]int)
			for range each * instances {
				picked, _ := f.pick(t)
				counts[picked]++
			}
			for i := range instances {
				if counts[address(i)] != each {
					t.Fatalf("calls that do not end are distributed %v, want %d to each", counts, each)
				}
			}
		})
	}
}

func TestAnInstanceThatDoesNotAnswerIsLeftOut(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 3)
	frozen, _ := f.pick(t) // and it never ends
	counts := make(map[string]int)
	const calls = 3000
	for range calls {
		picked, done := f.pick(t)
		done(balancer.DoneInfo{})
		counts[picked]++
	}
	if counts[frozen] != 0 || len(counts) != 2 {
		t.Fatalf("beside %s the calls went to %v", frozen, counts)
	}
	for other, count := range counts {
		if count < calls*4/10 {
			t.Errorf("%s, which is as idle as the other, got %d of %d calls", other, count, calls)
		}
	}
}

func TestOfManyInstancesSomeAreCompared(t *testing.T) {
	t.Parallel()
	const instances = 10 * leastrequest.Choices
	f := newFixture(t, instances)
	counts := make(map[string]int)
	for range 100 * instances {
		picked, _ := f.pick(t)
		counts[picked]++
	}
	for i := range instances {
		if count := counts[address(i)]; count < 90 || count > 110 {
			t.Errorf("%s got %d calls, want some 100", address(i), count)
		}
	}
}

func TestCallsInFlightAreKnownAfterTheListChanged(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	var ends []func(balancer.DoneInfo)
	for range 5 {
		_, done := f.pick(t)
		ends = append(ends, done)
	}
	f.resolve(t, 2)
	for range 5 {
		if picked, _ := f.pick(t); picked != address(1) {
			t.Fatal("the instance with calls in flight was picked")
		}
	}
	for _, done := range ends {
		done(balancer.DoneInfo{})
	}
	for range 5 {
		if picked, _ := f.pick(t); picked != address(0) {
			t.Fatal("the ends of calls from before the change do not count")
		}
	}
}

func TestCallsInFlightAreKnownAfterTheInstanceWasNotReady(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	picked, done := f.pick(t)
	conn := f.conn.conns[picked]
	conn.health(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure})
	conn.health(balancer.SubConnState{ConnectivityState: connectivity.Ready})
	other, _ := f.pick(t)
	if other == picked {
		t.Fatal("the call that is still in flight does not count")
	}
	done(balancer.DoneInfo{})
	if next, _ := f.pick(t); next != picked {
		t.Error("the end of the call does not count")
	}
}

// TestAnInstanceIsUpdatedIfItsAddressChanged checks that an update leaves out only the
// instances that did not change.
func TestAnInstanceIsUpdatedIfItsAddressChanged(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	unchanged, renewed := f.conn.conns[address(0)], f.conn.conns[address(1)]
	type key struct{}
	f.endpoints[1] = resolver.Endpoint{Addresses: []resolver.Address{{Addr: address(1), Attributes: attributes.New(key{}, "renewed")}}}
	f.update(t, 2)
	if f.conn.conns[address(0)] != unchanged || f.conn.conns[address(1)] == renewed {
		t.Error("want another connection to the instance with other attributes, and to no other")
	}
}

// TestAnInstanceThatIsNotReadyIsUpdated checks that pick_first connects again at an update,
// as it does in grpc-go's own policies.
func TestAnInstanceThatIsNotReadyIsUpdated(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	conn := f.conn.conns[address(0)]
	conn.become(connectivity.Connecting)
	conn.become(connectivity.TransientFailure)
	conn.become(connectivity.Idle)
	before := conn.connects
	f.update(t, 1)
	if conn.connects == before {
		t.Error("an update left out an instance that has no connection")
	}
}

func TestAnUpdateCostsLittleForEachInstanceThatDidNotChange(t *testing.T) { // not parallel: see testing.AllocsPerRun
	const instances, most = 100, 8 // pick_first alone would make 9
	f := newFixture(t, instances)
	if allocated := testing.AllocsPerRun(20, func() { f.update(t, instances) }); allocated > most*instances {
		t.Errorf("an update of %d instances makes %v allocations, want %d for each at most", instances, allocated, most)
	}
}

func TestInstancesThatAreNotReadyAreNotPicked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 2)
	f.conn.conns[address(0)].health(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure})
	for range 10 {
		if picked, _ := f.pick(t); picked != address(1) {
			t.Fatal("an instance that does not serve was picked")
		}
	}
	f.conn.conns[address(1)].health(balancer.SubConnState{ConnectivityState: connectivity.TransientFailure})
	if _, err := f.conn.state.Picker.Pick(balancer.PickInfo{}); err == nil || f.conn.state.ConnectivityState != connectivity.TransientFailure {
		t.Errorf("without an instance that serves, the state is %v and a pick returns %v", f.conn.state.ConnectivityState, err)
	}
}

func TestAPickAllocatesNothing(t *testing.T) { // not parallel: see testing.AllocsPerRun
	for _, instances := range []int{1, 3, 50} {
		f := newFixture(t, instances)
		allocated := testing.AllocsPerRun(100, func() {
			_, done := f.pick(t)
			done(balancer.DoneInfo{})
		})
		if allocated != 0 {
			t.Errorf("a pick of %d instances allocates %v times", instances, allocated)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, instances := range []int{1, 3, 50} {
		b.Run(strconv.Itoa(instances), func(b *testing.B) {
			picker := newFixture(b, instances).conn.state.Picker
			b.ReportAllocs()
			for b.Loop() {
				result, err := picker.Pick(balancer.PickInfo{})
				if err != nil {
					b.Fatal(err)
				}
				result.Done(balancer.DoneInfo{})
			}
		})
	}
}
