package instanceset_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/instanceset"
)

// source has snapshots alone.
type source struct {
	t      *testing.T
	notify func(discovery.Snapshot)
}

func (s *source) Watch(api string, observer func(discovery.Snapshot)) func() {
	if api != "billing" {
		s.t.Errorf("watched is %q", api)
	}
	s.notify = observer
	return func() { s.notify = nil }
}

// viewer has views too.
type viewer struct {
	source

	notifyView func(*instanceset.View)
}

func (v *viewer) WatchViews(_ string, observer func(*instanceset.View)) func() {
	v.notifyView = observer
	return func() { v.notifyView = nil }
}

func TestASnapshotBecomesAView(t *testing.T) {
	t.Parallel()
	s := &source{t: t}
	var got []*instanceset.View
	stop := instanceset.Watch(s, "billing", func(view *instanceset.View) { got = append(got, view) })
	snapshots := []discovery.Snapshot{
		{API: "billing", KnownAPIs: []string{"auth"}, Instances: []discovery.Instance{}},
		{API: "billing", Known: true, Instances: []discovery.Instance{{Address: "a:1"}, {Address: "c:1"}, {Address: "d:1"}}},
		{API: "billing", Known: true, Instances: []discovery.Instance{{Address: "a:1"}, {Address: "b:1"}, {Address: "c:1", Version: "2"}, {Address: "d:1"}}},
		{API: "billing", Known: true, Instances: []discovery.Instance{{Address: "b:1"}, {Address: "d:1"}}, Unreachable: &discovery.UnreachableError{Since: time.Now()}},
	}
	for i, snapshot := range snapshots {
		s.notify(snapshot)
		if len(got) != i+1 || !reflect.DeepEqual(got[i].Snapshot(), snapshot) {
			t.Fatalf("after %d snapshots: %d views, want one of %+v", i+1, len(got), snapshot)
		}
	}
	first, second, third := got[1].List, got[2].List, got[3].List
	if first[0] != second[0] || first[2] != second[3] || second[1] != third[0] || second[3] != third[1] {
		t.Error("an instance that did not change is another pointer")
	}
	if first[1] == second[2] || first[1].Version != "" {
		t.Error("an instance was changed in place")
	}
	snapshots[2].Instances[1].Version = "changed"
	if second[1].Version != "" {
		t.Error("a view keeps the snapshot's own instances, and all of it with them")
	}
	stop()
	if s.notify != nil {
		t.Error("stop did not reach the source")
	}
}

func TestASourceOfViewsIsAskedForThem(t *testing.T) {
	t.Parallel()
	v := new(viewer)
	var got *instanceset.View
	stop := instanceset.Watch(v, "billing", func(view *instanceset.View) { got = view })
	if v.notify != nil || v.notifyView == nil {
		t.Fatal("the source was not watched for views")
	}
	view := new(instanceset.View)
	v.notifyView(view)
	if got != view {
		t.Error("the view was replaced")
	}
	stop()
	if v.notifyView != nil {
		t.Error("stop did not reach the source")
	}
}

func TestAViewCopiesItsInstancesOnce(t *testing.T) {
	t.Parallel()
	view := &instanceset.View{List: []*discovery.Instance{{Address: "a:1"}}}
	if first, second := view.Snapshot(), view.Snapshot(); &first.Instances[0] != &second.Instances[0] {
		t.Error("each call copies the instances")
	}
}
