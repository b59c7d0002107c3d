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

// instance is an instance that runs. One of its methods is called, once.
type instance interface {
	stop() error
	kill() error
}

// starter starts an instance of a place, and returns when it is registered. life counts how
// often that was done before. kill says how the instance will end. The instances of a place
// are started one after the other.
type starter func(ctx context.Context, place, life int, kill bool) (instance, error)

// startFleet starts an instance in each place, and restarts it when it ends. It returns when
// each has been registered once.
func startFleet(ctx context.Context, places int, start starter) (*fleet, error) {
	ctx, cancel := context.WithCancel(ctx)
	f := &fleet{cancel: cancel}
	up := make(chan error, places)
	for place := range places {
		f.running.Go(func() {
			kill := rand.IntN(2) == 0
			started, err := start(ctx, place, 0, kill)
			up <- err
			for life := 1; err == nil; life++ {
				if err = f.live(ctx, started, kill); err != nil || ctx.Err() != nil {
					break
				}
				kill = rand.IntN(2) == 0
				started, err = start(ctx, place, life, kill)
			}
			f.fail(err)
		})
	}
	for range places {
		if err := <-up; err != nil {
			return nil, f.stop()
		}
	}
	return f, nil
}

// processes returns the starter of instances with a process of their own.
func processes(registry *lateRegistry, addresses []string, folder string) (starter, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	slots := make([]*slot, len(addresses))
	for i, address := range addresses {
		slots[i] = &slot{registry: registry, self: self, address: address}
	}
	return func(ctx context.Context, place, life int, _ bool) (instance, error) {
		return slots[place].start(ctx, notesOf(folder, place, life))
	}, nil
}

// notesOf returns the file of one life of an instance.
func notesOf(folder string, instance, life int) string {
	return filepath.Join(folder, fmt.Sprintf("%d-%d%s", instance, life, executionlog.FileEnd))
}

// live waits for the end of an instance's life, and kills or stops it.
func (f *fleet) live(ctx context.Context, running instance, kill bool) error {
	life := time.NewTimer(shortestLife + rand.N(longestLife-shortestLife))
	defer life.Stop()
	select {
	case <-life.C:
	case <-ctx.Done():
		return running.stop()
	}
	f.mu.Lock()
	if kill {
		f.killed++
	} else {
		f.stopped++
	}
	f.mu.Unlock()
	if kill {
		return running.kill()
	}
	return running.stop()
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
