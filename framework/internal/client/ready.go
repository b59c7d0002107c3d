package client

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/connectivity"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/internal/contract"
)

// Ready waits until the bus is connected to an instance of each API: see
// framework.Bus.Ready.
func (b *Bus) Ready(ctx context.Context, apis ...string) error {
	if ctx == nil {
		return callerr.Invalid("onecall: Ready", "the context is nil: give one with a deadline")
	}
	if len(apis) == 0 {
		return callerr.Invalid("onecall: Ready", "no API is named: give the bus names to wait for, such as auth")
	}
	for _, api := range apis {
		if err := contract.CheckName(api); err != nil {
			return callerr.Invalid("onecall: Ready", "%v", err)
		}
	}
	if b.closed.Load() {
		return callerr.Closed(strings.Join(apis, ", "))
	}
	errs := make([]error, len(apis))
	var all sync.WaitGroup
	for i, api := range apis { // all at once
		all.Go(func() { errs[i] = b.ready(ctx, api) })
	}
	all.Wait()
	var texts []string
	var causes []error
	for _, err := range errs {
		if err != nil {
			texts = append(texts, err.Error())
			causes = append(causes, err)
		}
	}
	if len(texts) == 0 {
		return nil
	}
	if b.closed.Load() {
		return callerr.Closed(strings.Join(apis, ", "))
	}
	return callerr.Waiting(ctx, "not ready: "+strings.Join(texts, "; "), causes...)
}

// ready waits until an instance of an API is connected. If ctx or the bus ends first,
// its error is the reason why none is.
func (b *Bus) ready(ctx context.Context, api string) error {
	clients, err := b.reach(ctx, api)
	if err != nil {
		return err
	}
	return readyAny(ctx, clients)
}

// ready waits until an instance is connected. If ctx or the bus ends first, its error is
// the reason why none is.
func (c *serviceClient) ready(ctx context.Context) error {
	for {
		state := c.withTimeouts.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Shutdown:
			return callerr.ErrClosed
		case connectivity.Idle:
			c.withTimeouts.Connect()
		case connectivity.Connecting, connectivity.TransientFailure:
		}
		if c.withTimeouts.WaitForStateChange(ctx, state) {
			continue
		}
		if reason := c.withTimeouts.availability.now(); reason != nil {
			return reason.err
		}
		if unconnected := c.withTimeouts.links.err(); unconnected != nil {
			return unconnected
		}
		return &discovery.ConnectionError{API: c.api.name}
	}
}

// readyAny waits until one of several clients is ready. Otherwise its error has the
// reason of each client.
func readyAny(ctx context.Context, clients []*serviceClient) error {
	if len(clients) == 1 {
		return clients[0].ready(ctx)
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	errs := make([]error, len(clients))
	for i, client := range clients {
		all.Go(func() {
			if errs[i] = client.ready(waiting); errs[i] == nil {
				cancel()
			}
		})
	}
	all.Wait()
	if slices.Contains(errs, nil) {
		return nil
	}
	return errors.Join(errs...)
}
