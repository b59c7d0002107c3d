package framework

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"google.golang.org/grpc/connectivity"

	"github.com/onecall-dev/onecall/internal/contract"
)

// Ready waits until each of the APIs has an instance that is connected. When
// ctx ends first, its error has the code of ctx's and says of each API that is
// not ready why. A bad name, or none, is an INVALID_ARGUMENT error at once.
func (b *Bus) Ready(ctx context.Context, apis ...string) error {
	if ctx == nil {
		return invalid("onecall: Ready", "the context is nil: give one with a deadline")
	}
	if len(apis) == 0 {
		return invalid("onecall: Ready", "no API is named: give the bus names to wait for, such as auth")
	}
	for _, api := range apis {
		if err := contract.CheckName(api); err != nil {
			return invalid("onecall: Ready", "%v", err)
		}
	}
	if b.closed.Load() {
		return closedError(strings.Join(apis, ", "))
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
		return closedError(strings.Join(apis, ", "))
	}
	return waitError(ctx, "not ready: "+strings.Join(texts, "; "), causes...)
}

// ready waits until an instance of an API is connected, or says why none is when
// ctx or the bus ends.
func (b *Bus) ready(ctx context.Context, api string) error {
	clients, err := b.reach(ctx, api)
	if err != nil {
		return err
	}
	return readyAny(ctx, clients)
}

// ready waits until an instance is connected, or says why none is when ctx or
// the bus ends.
func (c *serviceClient) ready(ctx context.Context) error {
	for {
		state := c.withTimeouts.GetState()
		switch state {
		case connectivity.Ready:
			return nil
		case connectivity.Shutdown:
			return ErrClosed
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
		return &ConnectionError{API: c.api.name}
	}
}

// readyAny waits until one of several clients is ready. Its error says of each
// why it is not.
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
