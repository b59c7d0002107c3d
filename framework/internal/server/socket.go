package server

import (
	"fmt"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/unixsocket"
)

// openSocket accepts connections on a unix socket too, and returns it. Only with option
// SocketDir it is an error if that is not possible. By default a service with a listener of
// the program's own has no socket: its connections would not come through that listener.
func (s *Service) openSocket() (discovery.Socket, error) {
	o := &s.options
	bases := unixsocket.Bases()
	switch {
	case o.NoSocket, o.SocketDir == "" && (!unixsocket.Supported || o.Listener != nil):
		return discovery.Socket{}, nil
	case o.SocketDir != "":
		bases = []string{o.SocketDir}
	}
	listener, err := unixsocket.Listen(s.life, bases, s.incarnation)
	if err != nil {
		if o.SocketDir != "" {
			return discovery.Socket{}, fmt.Errorf("option SocketDir: cannot listen there: %w", err)
		}
		o.Log.Info("there is no unix socket for callers on this host, which use TCP: option SocketDir sets another directory, and NoSocket avoids this line", "error", err)
		return discovery.Socket{}, nil
	}
	s.socket, err = s.accept(listener)
	return listener.Socket(), err
}

// listeners returns the listeners of a service that has begun.
func (s *Service) listeners() []*handover {
	if s.socket == nil {
		return []*handover{s.listener}
	}
	return []*handover{s.listener, s.socket}
}

// closeListeners closes the listeners, as far as there are any. They may be closed already.
func (s *Service) closeListeners() {
	for _, each := range s.listeners() {
		if each != nil {
			_ = each.Listener.Close()
		}
	}
}
