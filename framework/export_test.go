package framework

import (
	"context"
	"net"
)

// ListenWith serves on a listener of the test's own.
func ListenWith(listener net.Listener) ServeOption {
	return serveOption(func(options *serveOptions) error {
		options.listen = func(context.Context) (net.Listener, error) { return listener, nil }
		return nil
	})
}

// Policies are those that LoadBalancing's error suggests.
var Policies = policies

// Kept counts what a bus keeps of the methods that were called.
func Kept(b *Bus) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(*b.routes.Load()) + len(b.connections) + len(b.rules) + len(b.published)
}
