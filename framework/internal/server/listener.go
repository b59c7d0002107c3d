package server

import (
	"net"
	"sync"
	"time"
)

// handover is a listener whose connections go to one server, and from a moment on to
// another one.
type handover struct {
	net.Listener

	deadlines deadliner // nil if Accept cannot be ended without closing the listener
	// accepting is closed at the first Accept of the first server.
	accepting chan struct{}
	// closed is closed when the first server stops accepting, and left when it has
	// stopped.
	closed, left        chan struct{}
	accept, close, stop sync.Once
}

// newHandover returns a handover of a listener. inner is the listener below it.
func newHandover(listener, inner net.Listener) *handover {
	deadlines, _ := inner.(deadliner)
	return &handover{Listener: listener, deadlines: deadlines, accepting: make(chan struct{}), closed: make(chan struct{}), left: make(chan struct{})}
}

// deadliner is a listener whose Accept can be ended without closing it, such as that of
// TCP. Other listeners are closed, and have no second server.
type deadliner interface{ SetDeadline(at time.Time) error }

// Accept is that of the first server.
func (h *handover) Accept() (net.Conn, error) {
	h.accept.Do(func() { close(h.accepting) })
	select {
	case <-h.closed:
		return nil, h.leave()
	default:
	}
	conn, err := h.Listener.Accept()
	if err == nil {
		return conn, nil
	}
	select {
	case <-h.closed:
		return nil, h.leave()
	default:
		return nil, err
	}
}

// leave notes that the first server has stopped accepting.
func (h *handover) leave() error {
	h.stop.Do(func() { close(h.left) })
	return net.ErrClosed
}

// Close is that of the first server. The listener stays open for the second one, if that
// is possible.
func (h *handover) Close() (err error) {
	h.close.Do(func() {
		close(h.closed)
		if h.deadlines == nil || h.deadlines.SetDeadline(time.Unix(1, 0)) != nil {
			err = h.Listener.Close()
		}
	})
	return err
}

// second returns the listener of the second server, or nil if there can be none.
func (h *handover) second() net.Listener {
	if h.deadlines == nil {
		return nil
	}
	return &second{handover: h, ended: make(chan struct{})}
}

// second is a handover for the second server.
type second struct {
	*handover

	ended chan struct{}
	end   sync.Once
}

// Accept accepts once the first server has stopped.
func (s *second) Accept() (net.Conn, error) {
	select {
	case <-s.left:
	case <-s.ended:
		return nil, net.ErrClosed
	}
	if err := s.deadlines.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	return s.Listener.Accept()
}

// Close closes the listener.
func (s *second) Close() error {
	s.end.Do(func() { close(s.ended) })
	return s.Listener.Close()
}
