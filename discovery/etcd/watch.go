package etcd

import (
	"cmp"
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
	"github.com/onecall-dev/onecall/internal/notify"
)

// watch is what is known of one API, and who asked for it. The watcher's
// goroutine keeps it up to date.
type watch struct {
	api string

	// mu guards observers and latest. It is held while observers are given what to
	// be notified of, so that all are notified in one order, and not while they are.
	mu        sync.Mutex
	observers map[*observer]struct{}
	latest    *discovery.Snapshot // nil before anything is known

	// The fields below belong to the watcher's goroutine.

	// id is that of the watch on the watcher's stream, 0 when there is none and
	// the API must be listed.
	id int64
	// due is when the API is to be listed again, or, while id is not 0, to be
	// compared with etcd; failures counts listings in a row that failed.
	due      time.Time
	failures int
	// revision is the one up to which everything is known.
	revision int64
	entries  entries
	known    bool
	names    []string
	seen     time.Time
	fault    *discovery.UnreachableError
}

type observer = notify.Observer[discovery.Snapshot]

// Watch implements [discovery.Registry]. Of a closed registry it tells that it
// can't be reached.
func (r *Registry) Watch(api string, notified func(discovery.Snapshot)) func() {
	watching := notify.NewObserver(notified)
	w := r.watcher.join(api, watching)
	if w == nil {
		notified(discovery.Snapshot{API: api, Unreachable: &discovery.UnreachableError{Registry: r.describe(), Since: time.Now(), Cause: errClosed}})
		return func() {}
	}
	watching.Run()
	return func() { r.watcher.leave(w, watching) }
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

// list is what etcd answers of an API.
type list struct {
	watch    *watch
	client   *clientv3.Client
	err      error // why there is no answer; then the rest is not set
	revision int64
	entries  []entryOf
	unusable []unusable
	mark     *mvccpb.KeyValue // nil of an API that nobody ever served
	names    []string         // of a registry that does not know the API
}

// unusable is a key whose value can't be used.
type unusable struct {
	key string
	err error
}

// add takes in a key of the API.
func (l *list) add(api string, kv *mvccpb.KeyValue) {
	l.entries = append(l.entries, decode(api, kv, func(key string, err error) {
		l.unusable = append(l.unusable, unusable{key, err})
	}))
}

// take replaces what is known by a listing; skipped is told of entries that
// can't be used.
func (w *watch) take(l list, skipped func(key string, err error)) {
	before, knew, fault := w.entries.instances, w.known, w.fault
	first := w.revision == 0
	for _, u := range l.unusable {
		skipped(u.key, u.err)
	}
	w.entries.clear(len(l.entries))
	for _, entry := range l.entries {
		w.entries.add(entry)
	}
	w.entries.sort()
	w.entries.settle()
	w.revision = l.revision
	w.known = w.known || len(l.entries) > 0 || l.mark != nil
	w.names = l.names
	w.saw(len(before))
	if len(w.entries.instances) == 0 && w.seen.IsZero() && l.mark != nil {
		w.seen = decodeKnown(l.mark.GetValue())
	}
	w.fault, w.failures = nil, 0
	same := slices.EqualFunc(before, w.entries.instances, func(a, b discovery.Instance) bool { return a.Equal(b) })
	if first || !same || knew != w.known || fault != nil || !w.known {
		w.publish()
	}
}

// apply takes in events; those that a listing had told of already are passed
// over. last is false when etcd has parted the events of a revision and more of
// them follow.
func (w *watch) apply(events []*mvccpb.Event, last bool, skipped func(key string, err error)) {
	before := len(w.entries.instances)
	changed := false
	for _, event := range events {
		kv := event.GetKv()
		if kv.GetModRevision() <= w.revision {
			continue
		}
		changed = true
		if event.GetType() == mvccpb.Event_DELETE {
			w.entries.remove(keyOf(kv))
		} else {
			w.entries.put(decode(w.api, kv, skipped))
			w.known = true
		}
	}
	if !changed {
		return
	}
	if last {
		w.revision = events[len(events)-1].GetKv().GetModRevision()
	}
	w.entries.settle()
	w.saw(before)
	w.publish()
}

// decode gives the entry of a key. One whose value can't be used has no address:
// it is passed over, and what stood there before is no longer used either.
func decode(api string, kv *mvccpb.KeyValue, skipped func(key string, err error)) entryOf {
	entry := entryOf{key: keyOf(kv), created: kv.GetCreateRevision()}
	instance, err := decodeInstance(api, kv.GetValue())
	if err != nil {
		skipped(entry.key, err)
		return entry
	}
	entry.instance = instance
	return entry
}

// maxKeyBytes is the most that is kept of a key: ours have a tenth of it.
const maxKeyBytes = 512

// keyOf returns the name under which a key is kept: itself unless it is long.
func keyOf(kv *mvccpb.KeyValue) string {
	key := kv.GetKey()
	if len(key) <= maxKeyBytes {
		return string(key)
	}
	return fmt.Sprintf("%s…%x", key[:maxKeyBytes], sha256.Sum256(key))
}

// saw notes when the last instance went.
func (w *watch) saw(before int) {
	if before > 0 && len(w.entries.instances) == 0 {
		w.seen = time.Now()
	}
}

// unreachable tells that etcd can't be asked; instances stay as last known.
func (w *watch) unreachable(fault *discovery.UnreachableError) {
	same := w.fault != nil && w.fault.Since.Equal(fault.Since) && w.fault.Cause.Error() == fault.Cause.Error()
	w.fault = fault
	if !same {
		w.publish()
	}
}

// publish tells all observers what is known.
func (w *watch) publish() {
	snapshot := discovery.Snapshot{
		API:         w.api,
		Instances:   w.entries.instances,
		Known:       w.known,
		Unreachable: w.fault,
	}
	if !w.known {
		snapshot.KnownAPIs = w.names
	}
	if len(snapshot.Instances) == 0 {
		snapshot.LastSeen = w.seen
	}
	w.mu.Lock()
	w.latest = &snapshot
	watching := slices.Collect(maps.Keys(w.observers))
	for _, o := range watching {
		o.Add(snapshot)
	}
	w.mu.Unlock()
	for _, o := range watching {
		o.Run()
	}
}

var errClosed = errors.New("etcd: the registry is closed: close it after the buses and services that use it")

// entries are the keys of an API. An event costs as much with a thousand as
// with one, but for the copy of what observers share.
type entries struct {
	// addresses holds the address of each key, "" of one that can't be used.
	addresses map[string]string
	// sorted holds those that can be used by address, and of one address the
	// one that registered last first.
	sorted []entryOf
	// instances are the first of each address: what observers are told. They
	// are replaced, never changed.
	instances []discovery.Instance
}

// entryOf is an instance, its key and the revision at which that was made.
type entryOf struct {
	key      string
	instance discovery.Instance
	created  int64
}

func (e *entries) clear(size int) {
	e.addresses = make(map[string]string, size)
	e.sorted = make([]entryOf, 0, size)
}

// count is how many keys there are, those that can't be used among them.
func (e *entries) count() int64 { return int64(len(e.addresses)) }

// put takes in a key that may be there already.
func (e *entries) put(entry entryOf) {
	e.remove(entry.key)
	e.addresses[entry.key] = entry.instance.Address
	if entry.instance.Address == "" {
		return
	}
	i, _ := slices.BinarySearchFunc(e.sorted, entry, compareEntries)
	e.sorted = slices.Insert(e.sorted, i, entry)
}

// add takes in a key that is not there, without its place: sort follows.
func (e *entries) add(entry entryOf) {
	e.addresses[entry.key] = entry.instance.Address
	if entry.instance.Address != "" {
		e.sorted = append(e.sorted, entry)
	}
}

func (e *entries) sort() { slices.SortFunc(e.sorted, compareEntries) }

func (e *entries) remove(key string) {
	address := e.addresses[key]
	delete(e.addresses, key)
	if address == "" {
		return
	}
	i, _ := slices.BinarySearchFunc(e.sorted, address, func(entry entryOf, address string) int {
		return cmp.Compare(entry.instance.Address, address)
	})
	for e.sorted[i].key != key {
		i++
	}
	e.sorted = slices.Delete(e.sorted, i, i+1)
}

func compareEntries(a, b entryOf) int {
	return cmp.Or(cmp.Compare(a.instance.Address, b.instance.Address), cmp.Compare(b.created, a.created))
}

// settle makes instances anew.
func (e *entries) settle() {
	e.instances = make([]discovery.Instance, 0, len(e.sorted))
	for i := range e.sorted {
		if i == 0 || e.sorted[i].instance.Address != e.sorted[i-1].instance.Address {
			e.instances = append(e.instances, e.sorted[i].instance)
		}
	}
}
