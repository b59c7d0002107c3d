package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
)

const (
	// shortestLife and longestLife limit how long an instance runs.
	shortestLife, longestLife = 150 * time.Millisecond, 650 * time.Millisecond
)

// fleet is the instances. Each keeps its address over restarts.
type fleet struct {
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu              sync.Mutex // guards the fields below
	killed, stopped int
	errs            []error
}

// startFleet starts instances and restarts each when it ends. It returns when each has
// been registered once.
func startFleet(ctx context.Context, registry *lateRegistry, addresses []string, folder string) (*fleet, error) {
	ctx, cancel := context.WithCancel(ctx)
	self, err := os.Executable()
	if err != nil {
		cancel()
		return nil, err
	}
	f := &fleet{cancel: cancel}
	up := make(chan error, len(addresses))
	for i, address := range addresses {
		slot := &slot{registry: registry, self: self, address: address}
		f.running.Go(func() {
			process, err := slot.start(ctx, notesOf(folder, i, 0))
			up <- err
			for life := 1; err == nil; life++ {
				if err = f.live(ctx, process); err != nil || ctx.Err() != nil {
					break
				}
				process, err = slot.start(ctx, notesOf(folder, i, life))
			}
			f.fail(err)
		})
	}
	for range addresses {
		if err := <-up; err != nil {
			return nil, f.stop()
		}
	}
	return f, nil
}

// notesOf returns the file of one life of an instance.
func notesOf(folder string, instance, life int) string {
	return filepath.Join(folder, fmt.Sprintf("%d-%d%s", instance, life, executionlog.FileEnd))
}

// live waits for the end of an instance's life, and kills or stops its process.
func (f *fleet) live(ctx context.Context, process *process) error {
	life := time.NewTimer(shortestLife + rand.N(longestLife-shortestLife))
	defer life.Stop()
	kill := rand.IntN(2) == 0
	select {
	case <-life.C:
	case <-ctx.Done():
		return process.stop()
	}
	f.mu.Lock()
	if kill {
		f.killed++
	} else {
		f.stopped++
	}
	f.mu.Unlock()
	if kill {
		return process.kill()
	}
	return process.stop()
}

// fail records the error that ended an instance for good, if any.
func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errs = append(f.errs, err)
}

// stop stops all instances and waits for them. Further calls return the same error.
func (f *fleet) stop() error {
	f.cancel()
	f.running.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	return errors.Join(f.errs...)
}

// ends returns how many instances were killed and stopped.
func (f *fleet) ends() (killed, stopped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.killed, f.stopped
}
