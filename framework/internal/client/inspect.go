package client

import "sync"

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
