package frameworktest

import (
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream is a stream of a link at which a fault is to strike.
type stream struct {
	link     *link
	id       uint32
	strike   *strike
	identity string // of the call, as text; "" if it has none

	requests, replies lane
}

// lane is one direction of a stream. What is sent on it can be held, or left out.
type lane struct {
	mu      sync.Mutex // guards the fields below, and is held while held frames are written
	holding bool
	ended   bool // everything is left out from now on
	held    []func(*end) error
}

// forward returns whether to forward a frame. It holds the frame, or leaves it out and has
// from send as much again.
func (l *lane) forward(frame http2.Frame, from *end) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended:
		from.credit(frame)
		return false
	case l.holding:
		l.held = append(l.held, kept(frame))
		return false
	default:
		return true
	}
}

// hold holds frames until release.
func (l *lane) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holding = true
}

// release sends what was held, and holds no more.
func (l *lane) release(to *end) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.holding = false
	for _, write := range l.held {
		_ = write(to) // if the connection has ended, the frames are lost
	}
	l.held = nil
}

// end leaves out everything from now on.
func (l *lane) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// request handles a frame of the client, and returns whether to forward it.
func (s *stream) request(frame http2.Frame) bool {
	if handle := s.strike.fault.request; handle != nil {
		handle(s, frame)
	}
	return s.requests.forward(frame, s.link.client)
}

// reply handles a frame of the instance, and returns whether to forward it.
func (s *stream) reply(frame http2.Frame) bool {
	if _, ok := frame.(*http2.WindowUpdateFrame); ok {
		return true
	}
	if handle := s.strike.fault.reply; handle != nil {
		handle(s, frame)
	}
	return s.replies.forward(frame, s.link.server)
}

// release sends the frames of the request that are held.
func (s *stream) release() { s.requests.release(s.link.server) }

// isWhole reports whether a frame is the one at which a fault strikes that waits for a
// whole message: the last frame of a unary call, or the first of a stream.
func (s *stream) isWhole(frame http2.Frame) bool { return s.strike.stream || isLast(frame) }

// lose ends the stream for its client, as a proxy does that has lost the instance.
func (s *stream) lose() {
	s.requests.end()
	s.replies.end()
	s.link.client.answer(s.id, []hpack.HeaderField{
		{Name: ":status", Value: "200"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "grpc-status", Value: "14"},
		{Name: "grpc-message", Value: "the connection to the instance was lost: fault " + s.strike.fault.name},
	})
}

// forget has the instance say of the call from now on that it does not know it.
func (s *stream) forget() {
	if s.identity != "" {
		s.link.generation.instance.kit.network.forgotten.Store(s.identity, nil)
	}
}

// elsewhere runs f, which ends the link or waits for what does, beside the link.
func (s *stream) elsewhere(f func()) {
	s.link.generation.instance.kit.network.running.Go(f)
}

// delay holds replies for a time.
func (s *stream) delay(length time.Duration) {
	s.replies.hold()
	timer := time.AfterFunc(length, func() { s.replies.release(s.link.client) })
	s.elsewhere(func() {
		<-s.link.closed
		timer.Stop()
	})
}
