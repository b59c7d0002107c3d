package server

import "context"

// killKey is the key of a context's value that kills a service.
type killKey struct{}

// WithKill returns a context for [Start]. The service ends with killed as it would with
// its process: without a shutdown, and without leaving the registry. It is for package
// frameworktest.
func WithKill(ctx, killed context.Context) context.Context {
	return context.WithValue(ctx, killKey{}, killed)
}

// killOf returns the context with which a service is killed. It never ends for a service
// of a program.
func killOf(ctx context.Context) context.Context {
	if killed, ok := ctx.Value(killKey{}).(context.Context); ok {
		return killed
	}
	return context.Background()
}

// die ends the service at once: its connections, and the contexts of its handlers.
func (s *Service) die() {
	s.guard.EndCalls()
	s.endConnections()
	for range s.listeners() {
		<-s.served //nolint:errcheck // it says that the server was stopped
	}
}
