package client

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/framework/internal/admin"
	"github.com/onecall-dev/onecall/internal/quote"
)

// Kept is how much a bus keeps.
type Kept struct{ Routes, APIs, Services, Schemas int }

// Kept returns how much the bus keeps, for tests which show that names from outside cannot
// grow it.
func (b *Bus) Kept() Kept {
	b.mu.Lock()
	defer b.mu.Unlock()
	kept := Kept{Routes: len(*b.routes.Load()), APIs: len(b.apis)}
	for _, of := range b.apis {
		kept.Services += len(of.clients)
		kept.Schemas += of.checker.Known()
	}
	return kept
}

// Locks returns the locks of the bus and its APIs that calls must not need, for tests. It
// must not be called beside calls.
func (b *Bus) Locks() []sync.Locker {
	locks := []sync.Locker{&b.mu}
	for _, of := range b.apis {
		for _, client := range of.clients {
			locks = append(locks, &client.mu)
		}
		locks = append(locks, &of.watch.mu)
	}
	return locks
}

// maxCauseBytes is how many bytes the status page shows of why an API is unavailable.
const maxCauseBytes = 1 << 10

// Inspect implements [admin.Bus].
func (b *Bus) Inspect() []admin.APIStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []admin.APIStatus
	for name, of := range b.apis {
		if len(of.clients) == 0 {
			continue // only its schema was read
		}
		status := admin.APIStatus{API: name, Instances: []admin.Instance{}}
		for _, client := range of.clients {
			if cause := client.outage.now(); cause != nil {
				status.Unavailable = quote.Line(cause.Error(), maxCauseBytes)
			}
		}
		if latest := of.watch.latest.Load(); latest != nil {
			status.Instances, status.More = admin.Instances(latest.Snapshot().Instances)
			if latest.Rest.Unreachable != nil {
				status.ListAge = time.Since(latest.Rest.Unreachable.Since)
			}
		}
		all = append(all, status)
	}
	slices.SortFunc(all, func(a, b admin.APIStatus) int { return cmp.Compare(a.API, b.API) })
	return all
}
