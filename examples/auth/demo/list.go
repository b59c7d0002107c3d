package main

import (
	"context"
	"sync"

	"github.com/onecall-dev/onecall/discovery"
)

// list watches the instances of an API.
type list struct {
	stop    func()
	changed chan struct{}

	mu     sync.Mutex // guards latest
	latest []discovery.Instance
}

func newList(registry discovery.Registry, api string) *list {
	l := &list{changed: make(chan struct{}, 1)}
	l.stop = registry.Watch(api, func(snapshot discovery.Snapshot) {
		l.mu.Lock()
		l.latest = snapshot.Instances
		l.mu.Unlock()
		select {
		case l.changed <- struct{}{}:
		default:
		}
	})
	return l
}

// until waits until there are that many instances, or until the context ends, and returns
// the instances.
func (l *list) until(ctx context.Context, count int) []discovery.Instance {
	for {
		l.mu.Lock()
		latest := l.latest
		l.mu.Unlock()
		if len(latest) == count {
			return latest
		}
		select {
		case <-l.changed:
		case <-ctx.Done():
			return latest
		}
	}
}
