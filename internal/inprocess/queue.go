package inprocess

import (
	"io"
	"sync"
)

// window is how many bytes of messages one direction of a stream holds, besides one message.
// It is HTTP/2's.
const window = 64 << 10

// queue is one direction of a stream. One goroutine sends and one receives.
type queue struct {
	mu       sync.Mutex // guards the fields below
	messages []payload
	size     int // of messages, in bytes
	closed   bool

	// changed receives when a message or the end was added, and room when one was taken.
	changed, room chan struct{}
}

func newQueue() *queue {
	return &queue{changed: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// notify sends, unless the receiver will look anyway.
func notify(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// push adds a message once there is room. It returns false, and frees the message, if ended
// is closed first.
func (q *queue) push(message payload, ended <-chan struct{}) bool {
	size := message.size()
	for {
		select {
		case <-ended:
			message.free()
			return false
		default:
		}
		q.mu.Lock()
		fits := q.size == 0 || q.size+size <= window
		if fits {
			q.messages, q.size = append(q.messages, message), q.size+size
		}
		q.mu.Unlock()
		if fits {
			notify(q.changed)
			return true
		}
		select {
		case <-q.room:
		case <-ended:
		}
	}
}

// close adds the end.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	notify(q.changed)
}

// pop takes a message. It returns [io.EOF] at the end, and errLeft if left is closed first.
func (q *queue) pop(left <-chan struct{}) (payload, error) {
	for {
		q.mu.Lock()
		if len(q.messages) > 0 {
			message := q.messages[0]
			q.messages[0] = payload{}
			q.messages, q.size = q.messages[1:], q.size-message.size()
			q.mu.Unlock()
			notify(q.room)
			return message, nil
		}
		closed := q.closed
		q.mu.Unlock()
		select {
		case <-left:
			return payload{}, errLeft
		default:
		}
		if closed {
			return payload{}, io.EOF
		}
		select {
		case <-q.changed:
		case <-left:
		}
	}
}
