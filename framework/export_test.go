package framework

import (
	"context"
	"net"

	"github.com/onecall-dev/onecall/internal/schema"
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

// KeptVerdicts counts the schemas of instances of which a bus keeps what it found.
func KeptVerdicts(b *Bus) (count int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, conn := range b.connections {
		conn.drift.mu.Lock()
		count += len(conn.drift.verdicts)
		conn.drift.mu.Unlock()
	}
	return count
}

// BeforeUnpack has a bus that has made no call yet call hold before it reads a
// schema.
func BeforeUnpack(b *Bus, hold func()) {
	b.fetching.unpacked = func(packed, service string) (*schema.Schema, error) {
		hold()
		return schema.Unpack(packed, service)
	}
}
