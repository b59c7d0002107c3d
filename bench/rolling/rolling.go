package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/fixedport"
)

// settling is how long callers call before the first restart and after the last one.
const settling = 300 * time.Millisecond

// plainCallers is how many plain callers there are with -late.
const plainCallers = 8

// roll runs the instances and the callers, and checks the result.
func roll(ctx context.Context, settings settings) (result result, err error) {
	folder, err := os.MkdirTemp("", "rolling")
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	bed, err := newBed(ctx, settings, folder)
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, bed.close()) }()
	var book executionlog.Log
	callers := newCallers(&book)
	calling, cancel := context.WithCancel(ctx)
	defer cancel()
	callers.begin(calling, "bus", bed.bus, settings.callers)
	if settings.late > 0 {
		callers.begin(calling, "plain", bed.plain, plainCallers)
	}
	began := time.Now()
	ends, err := restart(ctx, bed.fleet, bed.proxy, settings)
	if err != nil {
		return result, err
	}
	if err := callers.stop(); err != nil {
		return result, err
	}
	took := time.Since(began)
	apis := bed.bus.Stats().APIs
	if err := errors.Join(bed.fleet.stopAll(), book.ReadFolder(folder)); err != nil {
		return result, err
	}
	return newResult(book.Check(), callers.counts, ends, took, settings, apis), nil
}

// bed is what callers need: the instances that run, an etcd, and the ways to call them.
type bed struct {
	fleet *fleet
	proxy *proxy
	bus   *framework.Bus
	plain *grpc.ClientConn // through the proxy

	ends []func() error // what close calls, the last first
}

// close ends everything.
func (b *bed) close() error {
	var errs []error
	for _, end := range slices.Backward(b.ends) {
		errs = append(errs, end())
	}
	return errors.Join(errs...)
}

func newBed(ctx context.Context, settings settings, folder string) (_ *bed, err error) {
	b := &bed{}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	server, err := embed.Start(ctx, embed.Config{})
	if err != nil {
		return nil, err
	}
	b.ends = append(b.ends, server.Close)
	fleet, release, err := newFleet(ctx, settings, server.Endpoints()[0], folder)
	if err != nil {
		return nil, err
	}
	b.fleet = fleet
	b.ends = append(b.ends, release, fleet.stopAll)
	if b.proxy, err = startProxy(ctx); err != nil {
		return nil, err
	}
	b.ends = append(b.ends, b.proxy.close)
	for slot := range fleet.slots {
		if err := fleet.start(slot); err != nil {
			return nil, err
		}
		b.proxy.add(fleet.slots[slot].address)
	}
	registry, err := etcd.Open(etcd.Config{Endpoints: server.Endpoints(), Logger: quiet})
	if err != nil {
		return nil, err
	}
	b.ends = append(b.ends, registry.Close)
	if b.bus, err = framework.NewBus(registry, framework.Logger(quiet)); err != nil {
		return nil, err
	}
	b.ends = append(b.ends, b.bus.Close)
	b.plain, err = grpc.NewClient("passthrough:///"+b.proxy.listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		return nil, err
	}
	b.ends = append(b.ends, b.plain.Close)
	return b, nil
}

// newFleet returns a fleet of which nothing runs. The last instance listens at another
// address in each life, as in a pod; the others keep theirs until release is called.
func newFleet(ctx context.Context, settings settings, endpoint, folder string) (f *fleet, release func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	f = &fleet{endpoint: endpoint, folder: folder, lameDuck: 2 * settings.late, self: self, slots: make([]*process, settings.instances)}
	var releases []func() error
	release = func() error {
		var errs []error
		for _, free := range releases {
			errs = append(errs, free())
		}
		return errors.Join(errs...)
	}
	for range settings.instances - 1 {
		address, free, err := fixedport.Reserve(ctx)
		if err != nil {
			return nil, nil, errors.Join(err, release())
		}
		f.listen, releases = append(f.listen, address), append(releases, free)
	}
	f.listen = append(f.listen, "127.0.0.1:0")
	return f, release, nil
}

// restart restarts all instances in turn, in each round. It returns how long each took to
// end.
func restart(ctx context.Context, fleet *fleet, proxy *proxy, settings settings) (ends []time.Duration, err error) {
	pause(ctx, settling)
	for range settings.rounds {
		for slot := range fleet.slots {
			address, began := fleet.slots[slot].address, time.Now()
			late := time.AfterFunc(settings.late, func() { proxy.remove(address) })
			err := fleet.stop(slot)
			ends = append(ends, time.Since(began))
			if late.Stop() {
				return nil, fmt.Errorf("instance %d ended before its lame duck had passed", slot)
			}
			if err == nil {
				err = fleet.start(slot)
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return nil, err
			}
			proxy.add(fleet.slots[slot].address)
		}
	}
	pause(ctx, settling)
	return ends, nil
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, length time.Duration) {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
