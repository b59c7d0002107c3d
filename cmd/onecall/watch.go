package main

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
)

// relistEvery is how often the names of all APIs are read while APIs are watched.
const relistEvery = time.Second

// first returns what the registry knows of an API. It fails if the registry is
// unreachable or ctx ends.
func first(ctx context.Context, registry discovery.Registry, api string) (discovery.Snapshot, error) {
	found := make(chan discovery.Snapshot, 1)
	stop := registry.Watch(api, func(s discovery.Snapshot) {
		select {
		case found <- s:
		default:
		}
	})
	defer stop()
	select {
	case snapshot := <-found:
		if snapshot.Unreachable != nil {
			return snapshot, snapshot.Unreachable
		}
		return snapshot, nil
	case <-ctx.Done():
		return discovery.Snapshot{}, ctx.Err()
	}
}

// all is the function all, and shows that the command waits.
func (p *program) all(ctx context.Context, registry *etcd.Registry, api string) ([]discovery.Snapshot, error) {
	defer p.waiting("reading the registry")()
	return all(ctx, registry, api)
}

// all returns what the registry knows of all APIs, by their names, or of one API. That API
// must be known.
func all(ctx context.Context, registry *etcd.Registry, api string) ([]discovery.Snapshot, error) {
	names := []string{api}
	if api == "" {
		var err error
		if names, err = registry.APIs(ctx); err != nil {
			return nil, err
		}
	}
	var snapshots []discovery.Snapshot
	for _, name := range names {
		snapshot, err := first(ctx, registry, name)
		if err != nil {
			return nil, err
		}
		if !snapshot.Known {
			return nil, snapshot.Err()
		}
		snapshots = append(snapshots, snapshot)
	}
	return snapshots, nil
}

// watcher watches all APIs, also those that become known later, or one API. Its methods are
// safe for all goroutines.
type watcher struct {
	registry *etcd.Registry
	changed  chan struct{}

	// mu guards the fields below.
	mu     sync.Mutex
	latest map[string]discovery.Snapshot
}

// watch watches until ctx ends. It sends to changed after each change.
func watch(ctx context.Context, registry *etcd.Registry, api string) *watcher {
	w := &watcher{registry: registry, changed: make(chan struct{}, 1), latest: make(map[string]discovery.Snapshot)}
	if api != "" {
		w.add(api)
		return w
	}
	go func() {
		tick := time.NewTicker(relistEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			if names, err := registry.APIs(ctx); err == nil {
				for _, name := range names {
					w.add(name)
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}()
	return w
}

// add watches an API, unless it is watched already.
func (w *watcher) add(api string) {
	w.mu.Lock()
	_, watched := w.latest[api]
	if !watched {
		w.latest[api] = discovery.Snapshot{API: api}
	}
	w.mu.Unlock()
	if watched {
		return
	}
	w.registry.Watch(api, func(s discovery.Snapshot) {
		w.mu.Lock()
		w.latest[api] = s
		w.mu.Unlock()
		select {
		case w.changed <- struct{}{}:
		default:
		}
	})
}

// snapshots returns the latest, by the names of their APIs.
func (w *watcher) snapshots() []discovery.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	var snapshots []discovery.Snapshot
	for _, name := range slices.Sorted(maps.Keys(w.latest)) {
		snapshots = append(snapshots, w.latest[name])
	}
	return snapshots
}
