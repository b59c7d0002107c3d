package etcd

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/backoff"
)

// watchBackoff spaces out listings of an etcd that fails. The first listing
// may take listFirst, later ones listLater; connecting to a user's etcd before
// may take connectLimit.
var watchBackoff = backoff.Policy{Base: 100 * time.Millisecond, Max: 2 * time.Second}

const (
	listFirst = time.Second
	listLater = 5 * time.Second

	connectLimit = 4 * time.Second
)

// watch follows one API for all who ask: it lists, then watches from the next
// revision, and lists again whenever the watch ends.
type watch struct {
	registry *Registry
	api      string
	stop     context.CancelFunc

	// mu guards observers and latest, and is held while observers are told,
	// so that they are told in order and none after its stop.
	mu        sync.Mutex
	observers map[*observer]struct{}
	latest    *discovery.Snapshot // nil before anything is known

	// The fields below belong to the goroutine.
	entries map[string]watched
	known   bool
	names   []string
	fault   *discovery.UnreachableError
}

// watched is an instance and the revision at which its key was made.
type watched struct {
	instance discovery.Instance
	created  int64
}

type observer struct{ tell func(discovery.Snapshot) }

// Watch implements [discovery.Registry]. Of a closed registry it tells that it
// can't be reached.
func (r *Registry) Watch(api string, tell func(discovery.Snapshot)) func() {
	o := &observer{tell: tell}
	w := r.join(api, o)
	if w == nil {
		tell(discovery.Snapshot{API: api, Unreachable: &discovery.UnreachableError{Registry: r.describe(), Since: time.Now(), Cause: errClosed}})
		return func() {}
	}
	w.mu.Lock()
	if _, staying := w.observers[o]; staying && w.latest != nil {
		tell(*w.latest)
	}
	w.mu.Unlock()
	return func() { r.leave(w, o) }
}

// join adds an observer to the API's watch, which begins with its first. It
// gives nil when the registry is closed.
func (r *Registry) join(api string, o *observer) *watch {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	w := r.watches[api]
	if w == nil {
		life, stop := context.WithCancel(r.conn.Life())
		w = &watch{registry: r, api: api, stop: stop, observers: make(map[*observer]struct{})}
		r.watches[api] = w
		r.ended.Go(func() { w.run(life) })
	}
	w.mu.Lock()
	w.observers[o] = struct{}{}
	w.mu.Unlock()
	return w
}

// leave takes an observer away; the watch ends with its last.
func (r *Registry) leave(w *watch, o *observer) {
	w.mu.Lock() // waits until o has been told, without holding up other watches
	delete(w.observers, o)
	w.mu.Unlock()

	r.mu.Lock()
	defer r.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.observers) == 0 && r.watches[w.api] == w {
		delete(r.watches, w.api)
		w.stop()
	}
}

// run is the goroutine.
func (w *watch) run(life context.Context) {
	for failures := 0; life.Err() == nil; {
		timeout := listLater
		if failures == 0 {
			timeout = listFirst
		}
		revision, err := w.list(life, timeout)
		if err == nil {
			failures = 0
			err = w.follow(life, revision+1)
		} else if life.Err() == nil {
			w.unreachable(err)
		}
		failures++
		if err != nil && life.Err() == nil {
			w.registry.config.Logger.Debug("watch ended; listing again", "api", w.api, "error", err)
		}
		if watchBackoff.Wait(life, failures) != nil {
			return
		}
	}
}

// list reads all that is known of the API, tells it, and gives the revision at
// which it was so.
func (w *watch) list(life context.Context, timeout time.Duration) (int64, error) {
	if err := w.connect(life); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(life, timeout)
	defer cancel()
	client, err := w.registry.conn.Ready(ctx)
	if err != nil {
		return 0, err
	}
	keys := w.registry.keys
	reply, err := client.Txn(ctx).Then(
		clientv3.OpGet(keys.instances(w.api), clientv3.WithPrefix()),
		clientv3.OpGet(keys.known(w.api), clientv3.WithCountOnly()),
	).Commit()
	if err != nil {
		return 0, doing("listing", err)
	}
	w.entries = make(map[string]watched)
	for _, kv := range reply.Responses[0].GetResponseRange().GetKvs() {
		w.put(kv)
	}
	w.known = w.known || len(w.entries) > 0 || reply.Responses[1].GetResponseRange().GetCount() > 0
	w.names = nil
	if !w.known {
		known, err := client.Get(ctx, keys.allKnown(), clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			return 0, doing("listing the known APIs", err)
		}
		for _, kv := range known.Kvs {
			w.names = append(w.names, keys.knownAPI(string(kv.GetKey())))
		}
	}
	w.fault = nil
	w.publish()
	return reply.Header.GetRevision(), nil
}

// connect makes sure of a client. A busy etcd may take longer over a password
// than over a listing, and a wrong one is a better reason than no answer.
func (w *watch) connect(life context.Context) error {
	ctx, cancel := context.WithTimeout(life, connectLimit)
	defer cancel()
	_, err := w.registry.conn.Get(ctx)
	return err
}

// follow applies events from a revision on until the watch ends, and says why
// it did.
func (w *watch) follow(life context.Context, revision int64) error {
	client, err := w.registry.conn.Get(life)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(life))
	defer cancel()
	events := client.Watch(ctx, w.registry.keys.instances(w.api), clientv3.WithPrefix(), clientv3.WithRev(revision))
	for reply := range events {
		if err := reply.Err(); err != nil {
			return doing("watching", err)
		}
		if len(reply.Events) == 0 {
			continue
		}
		for _, event := range reply.Events {
			if event.GetType() == clientv3.EventTypeDelete {
				delete(w.entries, string(event.GetKv().GetKey()))
			} else {
				w.put(event.GetKv())
			}
		}
		w.publish()
	}
	return errors.New("the watch was closed")
}

// put takes in the value of a key; one that can't be used is passed over, and
// what stood there before is no longer used either.
func (w *watch) put(kv *mvccpb.KeyValue) {
	key := string(kv.GetKey())
	instance, err := decodeInstance(w.api, kv.GetValue())
	if err != nil {
		delete(w.entries, key)
		w.registry.skipped.Add(1)
		w.registry.config.Logger.Warn("an entry in etcd can't be used and is skipped", "key", key, "error", err)
		return
	}
	w.entries[key] = watched{instance: instance, created: kv.GetCreateRevision()}
	w.known = true
}

// unreachable tells that etcd can't be asked; instances stay as last known.
func (w *watch) unreachable(cause error) {
	since := time.Now()
	if w.fault != nil {
		since = w.fault.Since
	} else {
		w.registry.config.Logger.Warn("cannot read from etcd; the last known instances stay in use", "api", w.api, "error", cause)
	}
	w.fault = &discovery.UnreachableError{Registry: w.registry.describe(), Since: since, Cause: cause}
	w.publish()
}

// publish tells all observers what is known.
func (w *watch) publish() {
	snapshot := discovery.Snapshot{
		API:         w.api,
		Instances:   newestByAddress(w.entries),
		Known:       w.known,
		Unreachable: w.fault,
	}
	if !w.known {
		snapshot.KnownAPIs = w.names
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.latest = &snapshot
	for o := range w.observers {
		o.tell(snapshot)
	}
}

// newestByAddress sorts instances by address and keeps, of several at one
// address, the one that registered last.
func newestByAddress(entries map[string]watched) []discovery.Instance {
	all := slices.SortedFunc(maps.Values(entries), func(a, b watched) int {
		return cmp.Or(cmp.Compare(a.instance.Address, b.instance.Address), cmp.Compare(b.created, a.created))
	})
	instances := make([]discovery.Instance, 0, len(all))
	for i, entry := range all {
		if i == 0 || entry.instance.Address != all[i-1].instance.Address {
			instances = append(instances, entry.instance)
		}
	}
	return instances
}
