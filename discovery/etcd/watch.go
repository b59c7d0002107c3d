package etcd

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/instanceset"
	"github.com/onecall-dev/onecall/internal/notify"
)

// watch has the state of one API, and its observers. The watcher's goroutine updates it.
type watch struct {
	api string

	// mu guards observers and latest. It is held while snapshots are queued for the
	// observers, so that all receive them in one order, and not while they are notified.
	// The watcher's lock may be held when it is acquired, and not the other way round.
	mu        sync.Mutex
	observers map[*observer]struct{}
	latest    *instanceset.View // nil before anything is known

	// The fields below belong to the watcher's goroutine.

	// id is that of the watch on the watcher's stream, 0 if there is none and the API
	// must be listed.
	id int64
	// due is when to list the API again, or, while id is not 0, to compare it with
	// etcd. failures counts listings in a row that failed.
	due      time.Time
	failures int
	// revision is the latest whose changes are all applied.
	revision int64
	entries  instanceset.Set
	known    bool      // whether the API was ever served
	names    []string  // of the known APIs, while this one is unknown
	seen     time.Time // when the last instance was gone; zero if that is not known
	err      *discovery.UnreachableError
}

type observer = notify.Observer[*instanceset.View]

// Watch implements [discovery.Registry]. A closed registry notifies once, of an
// unreachable registry.
func (r *Registry) Watch(api string, notified func(discovery.Snapshot)) func() {
	return r.WatchViews(api, func(view *instanceset.View) { notified(view.Snapshot()) })
}

// WatchViews is Watch for the framework and package resolver: the instances of a view are
// not copied at each change.
func (r *Registry) WatchViews(api string, notified func(*instanceset.View)) func() {
	watching := notify.NewObserver(notified)
	w := r.watcher.join(api, watching)
	if w == nil {
		notified(unreachableView(api, &discovery.UnreachableError{Registry: r.describe(), Since: time.Now(), Cause: errClosed}))
		return func() {}
	}
	watching.Run()
	return func() { r.watcher.leave(w, watching) }
}

// unreachableView is the view of an API of which nothing is known, because etcd cannot be
// read.
func unreachableView(api string, err *discovery.UnreachableError) *instanceset.View {
	return &instanceset.View{Rest: discovery.Snapshot{API: api, Unreachable: err}}
}

// Descriptors implements [discovery.Registry].
func (r *Registry) Descriptors(ctx context.Context, instance discovery.Instance) (string, error) {
	if r.conn.Life().Err() != nil {
		return "", errClosed
	}
	client, err := r.conn.Ready(ctx)
	if err != nil {
		return "", fmt.Errorf("asking for the descriptors of %s: %w", instance.API, err)
	}
	reply, err := client.Get(ctx, r.keys.schema(instance))
	if err != nil {
		return "", fmt.Errorf("asking for the descriptors of %s: %w", instance.API, err)
	}
	if len(reply.Kvs) == 0 {
		return "", nil
	}
	return string(reply.Kvs[0].GetValue()), nil
}

// listing is the result of listing an API.
type listing struct {
	watch    *watch
	client   *clientv3.Client
	err      error // why it failed; then the fields below are zero
	revision int64
	entries  []instanceset.Entry
	unusable []unusable
	mark     *mvccpb.KeyValue // the key below known/; nil if there is none
	names    []string         // of the known APIs, if this one is unknown
}

// unusable is a key whose value cannot be used.
type unusable struct {
	key string
	err error
}

// add adds a key of the API.
func (l *listing) add(api string, kv *mvccpb.KeyValue) {
	l.entries = append(l.entries, decode(api, kv, func(key string, err error) {
		l.unusable = append(l.unusable, unusable{key, err})
	}))
}

// applyListing replaces the state of the API. It calls skipped for each entry that cannot
// be used.
func (w *watch) applyListing(l listing, skipped func(key string, err error)) {
	before, knew, failed := w.entries.List(), w.known, w.err != nil
	first := w.revision == 0
	for _, u := range l.unusable {
		skipped(u.key, u.err)
	}
	w.entries.Reset(l.entries)
	w.revision = l.revision
	w.known = w.known || len(l.entries) > 0 || l.mark != nil
	w.names = l.names
	w.noteSeen(len(before))
	if len(w.entries.List()) == 0 && w.seen.IsZero() && l.mark != nil {
		w.seen = decodeKnown(l.mark.GetValue())
	}
	w.err, w.failures = nil, 0
	same := slices.Equal(before, w.entries.List()) // the set keeps the pointers of equal instances
	if first || !same || knew != w.known || failed || !w.known {
		w.publish()
	}
}

// apply applies events, except those that the listing has included. last is false if
// etcd has split the events of a revision and more of them follow.
func (w *watch) apply(events []*mvccpb.Event, last bool, skipped func(key string, err error)) {
	before := len(w.entries.List())
	changed := false
	for _, event := range events {
		kv := event.GetKv()
		if kv.GetModRevision() <= w.revision {
			continue
		}
		changed = true
		if event.GetType() == mvccpb.Event_DELETE {
			w.entries.Remove(keyOf(kv))
		} else {
			w.entries.Put(decode(w.api, kv, skipped))
			w.known = true
		}
	}
	if !changed {
		return
	}
	if last {
		w.revision = events[len(events)-1].GetKv().GetModRevision()
	}
	w.noteSeen(before)
	w.publish()
}

// decode returns the entry of a key. If the value cannot be used, the entry has no
// instance, and replaces the key's earlier value all the same.
func decode(api string, kv *mvccpb.KeyValue, skipped func(key string, err error)) instanceset.Entry {
	entry := instanceset.Entry{Key: keyOf(kv), Created: kv.GetCreateRevision()}
	instance, err := decodeInstance(api, kv.GetValue())
	if err != nil {
		skipped(entry.Key, err)
		return entry
	}
	entry.Instance = &instance
	return entry
}

// maxKeyBytes is how much of a key is kept. The keys of this package have a tenth of it.
const maxKeyBytes = 512

// keyOf returns the key. It shortens a long one to its beginning and a hash.
func keyOf(kv *mvccpb.KeyValue) string {
	key := kv.GetKey()
	if len(key) <= maxKeyBytes {
		return string(key)
	}
	return fmt.Sprintf("%s…%x", key[:maxKeyBytes], sha256.Sum256(key))
}

// noteSeen sets seen if the last instance is gone.
func (w *watch) noteSeen(before int) {
	if before > 0 && len(w.entries.List()) == 0 {
		w.seen = time.Now()
	}
}

// unreachable notifies the observers that etcd cannot be read. The last known instances
// stay.
func (w *watch) unreachable(err *discovery.UnreachableError) {
	same := w.err != nil && w.err.Since.Equal(err.Since) && w.err.Cause.Error() == err.Cause.Error()
	w.err = err
	if !same {
		w.publish()
	}
}

// publish notifies all observers of the API's state.
func (w *watch) publish() {
	view := &instanceset.View{
		List: w.entries.List(),
		Rest: discovery.Snapshot{API: w.api, Known: w.known, Unreachable: w.err},
	}
	if !w.known {
		view.Rest.KnownAPIs = w.names
	}
	if len(view.List) == 0 {
		view.Rest.LastSeen = w.seen
	}
	w.mu.Lock()
	w.latest = view
	watching := slices.Collect(maps.Keys(w.observers))
	for _, o := range watching {
		o.Add(view)
	}
	w.mu.Unlock()
	for _, o := range watching {
		o.Run()
	}
}

var errClosed = errors.New("etcd: the registry is closed: close it after the buses and services that use it")
