package main

import (
	"context"
	"errors"
	"time"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/framework"
)

// graceful is the shutdown timeout of an instance in this process that is not killed. Its
// handlers end long before.
const graceful = 2 * time.Second

// ownInstances returns the starter of instances in this process, which callers reach without
// the network.
func ownInstances(registry *lateRegistry, addresses []string, served *service) starter {
	return func(ctx context.Context, place, _ int, kill bool) (instance, error) {
		timeout := graceful
		if kill {
			timeout = atOnce
		}
		started, err := startAt(ctx, addresses[place], registry, served, timeout)
		return own{started}, err
	}
}

// own is an instance in this process.
type own struct{ service *framework.Service }

// stop implements [instance].
func (o own) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return o.service.Stop(ctx)
}

// kill implements [instance]. No process ends, but all of its calls are cut off.
func (o own) kill() error {
	_ = o.stop() // calls that it cut off are no error
	return nil
}

// tortureOwn runs instances and callers in this process, and checks the result. The network
// has no part in it, so nothing is sent again and no connection is cut.
func tortureOwn(ctx context.Context, settings settings) (result result, err error) {
	addresses, release, err := reserve(ctx, settings.instances)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, release()) }()
	registry := newLateRegistry(lateNews, settings.silent)
	defer registry.close()
	book := new(executionlog.Log)
	served := &service{ran: func(callID string) error {
		book.Ran(callID)
		return nil
	}}
	fleet, err := startFleet(ctx, len(addresses), ownInstances(registry, addresses, served))
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, fleet.stop()) }()
	bus, err := framework.NewBus(registry, quiet, framework.ConnectBackoff(baseDelay, maxDelay))
	if err != nil {
		return result, err
	}
	defer bus.Close()
	callers := newCallers(bus, book, settings)
	if err := callers.run(ctx); err != nil {
		return result, err
	}
	if err := fleet.stop(); err != nil {
		return result, err
	}
	late := time.NewTimer(10 * work) // a handler that was cut off may be about to begin
	defer late.Stop()
	select {
	case <-late.C:
	case <-ctx.Done():
		return result, ctx.Err()
	}
	settings.replayed = 0
	result = judge(book.Check(), callers, nil, settings)
	result.killed, result.stopped = fleet.ends()
	result.linked, result.wantsLinked = served.linked.Load(), true
	return result, nil
}
