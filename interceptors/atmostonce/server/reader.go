package server

import (
	"io"
	"sync"
	"sync/atomic"
)

// reader reads the request of a unary call, once, and keeps why that failed. Its decode is
// a method value, which costs an allocation. So a reader serves one call after the other,
// if the method of each has read its request when it returns, as generated code has.
type reader struct {
	decode func(req any) error // what a method is passed

	read  func(req any) error // of the call
	state atomic.Int32
	err   error // of read, set when the state is wasRead
}

// The states of a reader.
const (
	unread int32 = iota
	reading
	wasRead
)

var readers = sync.Pool{New: func() any {
	r := new(reader)
	r.decode = r.decodeOnce
	return r
}}

// newReader returns the reader of a call whose request read reads.
func newReader(read func(any) error) *reader {
	r, _ := readers.Get().(*reader)
	r.read, r.err = read, nil
	r.state.Store(unread)
	return r
}

// decodeOnce reads the request. A second time there is no request, as on the wire.
func (r *reader) decodeOnce(req any) error {
	if !r.state.CompareAndSwap(unread, reading) {
		return io.EOF
	}
	r.err = r.read(req)
	r.state.Store(wasRead)
	return r.err
}

// failure returns the error with which the request could not be read, nil if it was read.
func (r *reader) failure() error {
	if r.state.Load() != wasRead {
		return nil
	}
	return r.err
}

// end is called when the method has returned. A goroutine of a method that did not wait for
// the request may still read it: then the reader serves no other call.
func (r *reader) end() {
	if r.state.Load() == wasRead {
		r.read = nil
		readers.Put(r)
	}
}
