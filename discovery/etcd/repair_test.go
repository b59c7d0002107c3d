package etcd_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/grpctest"
)

// front is a server in front of an etcd. It can withhold the events of watches, as a
// member does that lags, or send them again.
type front struct {
	pb.UnimplementedKVServer
	pb.UnimplementedWatchServer

	etcd     *clientv3.Client
	withhold atomic.Bool
	withheld atomic.Int64
	repeat   atomic.Bool
	// lists and comparisons count requests of an API's keys, and streams those of
	// watches.
	lists, comparisons, streams atomic.Int64
	// fragment has events that come together sent one by one, as fragments.
	fragment atomic.Bool
	// onList is called with each listing before etcd is asked, nil when there is
	// nothing to do.
	onList atomic.Pointer[func(ctx context.Context, key string)]
}

func (w *front) Txn(ctx context.Context, request *pb.TxnRequest) (*pb.TxnResponse, error) {
	if request.GetSuccess()[0].GetRequestRange().GetMinModRevision() > 0 {
		w.comparisons.Add(1)
	} else {
		w.lists.Add(1)
		if do := w.onList.Load(); do != nil {
			(*do)(ctx, string(request.GetSuccess()[0].GetRequestRange().GetKey()))
		}
	}
	return pb.NewKVClient(w.etcd.ActiveConnection()).Txn(ctx, request)
}

func (w *front) Range(ctx context.Context, request *pb.RangeRequest) (*pb.RangeResponse, error) {
	return pb.NewKVClient(w.etcd.ActiveConnection()).Range(ctx, request)
}

func (w *front) Watch(stream pb.Watch_WatchServer) error {
	w.streams.Add(1)
	inside, err := pb.NewWatchClient(w.etcd.ActiveConnection()).Watch(stream.Context())
	if err != nil {
		return err
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			_ = inside.Send(request)
		}
	})
	var told []*pb.WatchResponse
	for {
		response, err := inside.Recv()
		if err != nil {
			return err
		}
		if len(response.GetEvents()) > 0 && w.withhold.Load() {
			w.withheld.Add(1)
			continue
		}
		send := []*pb.WatchResponse{response}
		if events := response.GetEvents(); w.fragment.Load() && len(events) > 1 {
			send = nil
			for i, event := range events {
				part := proto.CloneOf(response)
				part.Events, part.Fragment = []*mvccpb.Event{event}, i < len(events)-1
				send = append(send, part)
			}
		}
		if w.repeat.Load() {
			send = append(send, told...)
		}
		if len(response.GetEvents()) > 0 {
			told = append(told, response)
		}
		for _, response := range send {
			if err := stream.Send(response); err != nil {
				return err
			}
		}
	}
}

// newFront returns a front of the shared etcd, a registry that goes through it and
// one that does not.
func newFront(t *testing.T) (before *front, through, direct *etcd.Registry) {
	t.Helper()
	before = &front{etcd: client(t, shared)}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, before)
	pb.RegisterWatchServer(server, before)
	address := grpctest.Loopback(t, server)
	namespace := newNamespace()
	through, err := etcd.Open(etcd.Config{
		Endpoints: []string{"http://" + address}, Namespace: namespace, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = through.Close() })
	through.ListWithin(eventually.Limit, eventually.Limit) // a busy machine lists once too
	return before, through, open(t, shared, namespace)
}

// TestEventsOlderThanWhatIsKnownAreDropped sends every event again after each later
// one.
func TestEventsOlderThanWhatIsKnownAreDropped(t *testing.T) {
	t.Parallel()
	front, registry, direct := newFront(t)
	front.repeat.Store(true)
	watched := discoverytest.Watch(t, registry, "auth")
	first := discoverytest.Register(t, direct, discoverytest.Instance("auth", "10.0.0.1:1"))
	watched.UntilAddresses(t, "10.0.0.1:1")
	discoverytest.Close(t, first)
	watched.UntilAddresses(t)
	discoverytest.Register(t, direct, discoverytest.Instance("auth", "10.0.0.2:1"))
	watched.UntilAddresses(t, "10.0.0.2:1")
	discoverytest.Register(t, direct, discoverytest.Instance("auth", "10.0.0.3:1"))
	watched.UntilAddresses(t, "10.0.0.2:1", "10.0.0.3:1")
	if seen := watched.Snapshots(); len(seen) > 5 { // nothing, and the four changes
		t.Errorf("seen %d times, want 5: of an event that was known already too: %+v", len(seen), seen)
	}
}

// TestWhatAMemberWithheldIsRepaired withholds a put, a change and a deletion.
func TestWhatAMemberWithheldIsRepaired(t *testing.T) {
	t.Parallel()
	front, registry, direct := newFront(t)
	registry.RepairEvery(200 * time.Millisecond)

	first := discoverytest.Register(t, direct, discoverytest.Instance("auth", "10.0.0.1:1"))
	second := discoverytest.Register(t, direct, discoverytest.Instance("auth", "10.0.0.2:1"))
	watched := discoverytest.Watch(t, registry, "auth")
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1")
	eventually.True(t, "three comparisons", func() bool { return front.comparisons.Load() >= 3 })
	if lists := front.lists.Load(); lists != 1 {
		t.Errorf("while nothing changed the API was listed %d times, want once", lists)
	}

	front.withhold.Store(true)
	discoverytest.Register(t, direct, discoverytest.Instance("auth", "10.0.0.3:1"))
	watched.UntilAddresses(t, "10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")
	discoverytest.Close(t, first)
	watched.UntilAddresses(t, "10.0.0.2:1", "10.0.0.3:1")
	if err := second.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	watched.Until(t, "a draining instance", func(s discovery.Snapshot) bool { return s.Instances[0].State == discovery.Draining })
	if front.withheld.Load() < 3 {
		t.Errorf("%d events were withheld, want 3: this test shows nothing", front.withheld.Load())
	}

	front.withhold.Store(false)
	discoverytest.Register(t, direct, discoverytest.Instance("auth", "10.0.0.4:1"))
	watched.UntilAddresses(t, "10.0.0.2:1", "10.0.0.3:1", "10.0.0.4:1")
	for i, snapshot := range watched.Snapshots() { // nothing older came after
		for _, instance := range snapshot.Instances {
			if i > 3 && instance.Address == "10.0.0.1:1" {
				t.Errorf("snapshot %d has the instance that was gone before", i)
			}
		}
	}
}
