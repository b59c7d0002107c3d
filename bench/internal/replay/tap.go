package replay

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	frameHeader = 9 // length (3), type, flags, stream (4): RFC 9113, section 4.1
	// tableSize is as much as any server asks callers to remember of headers.
	tableSize = 1 << 20
	maxFrame  = 1<<24 - 1
)

// Tap gives a connection on which observe is told of each call that is written
// whole, before its last bytes leave, so that a copy may overtake it. The error
// says why the tap cannot read on; then there is no call, and none will follow.
//
// The connection is a caller's, fresh, and in plain text. Observe is quick.
func Tap(conn net.Conn, observe func(Call, error)) net.Conn {
	t := &tap{Conn: conn, observe: observe, calls: make(map[uint32]*Call), preface: len(http2.ClientPreface)}
	t.framer = http2.NewFramer(nil, &t.unread)
	t.framer.SetMaxReadFrameSize(maxFrame)
	decoder := hpack.NewDecoder(4096, nil)
	decoder.SetAllowedMaxDynamicTableSize(tableSize)
	t.framer.ReadMetaHeaders = decoder
	return t
}

// tap reads what is written. Only Write uses its fields, and HTTP/2's writers
// are one goroutine a connection.
type tap struct {
	net.Conn

	observe func(Call, error)
	preface int // what is still to come of it
	unread  bytes.Buffer
	framer  *http2.Framer
	calls   map[uint32]*Call // that are not whole yet, by stream
	failed  bool
}

// Write implements [net.Conn].
func (t *tap) Write(data []byte) (int, error) {
	if !t.failed {
		if err := t.read(data); err != nil {
			t.failed = true
			t.observe(Call{}, fmt.Errorf("replay: tap: %w", err))
		}
	}
	return t.Conn.Write(data)
}

func (t *tap) read(data []byte) error {
	skip := min(t.preface, len(data))
	t.preface -= skip
	t.unread.Write(data[skip:])
	for whole(t.unread.Bytes()) {
		frame, err := t.framer.ReadFrame()
		if err != nil {
			return err
		}
		t.take(frame)
	}
	return nil
}

// whole tells whether data begins with a whole frame, and with all that belongs
// to it if it is one of headers.
func whole(data []byte) bool {
	for {
		if len(data) < frameHeader {
			return false
		}
		length := frameHeader + int(binary.BigEndian.Uint32(data)>>8)
		if len(data) < length {
			return false
		}
		kind, flags := http2.FrameType(data[3]), http2.Flags(data[4])
		if kind != http2.FrameHeaders && kind != http2.FrameContinuation || flags.Has(http2.FlagHeadersEndHeaders) {
			return true
		}
		data = data[length:]
	}
}

// take adds a frame to its call.
func (t *tap) take(frame http2.Frame) {
	stream := frame.Header().StreamID
	ended := false
	switch frame := frame.(type) {
	case *http2.MetaHeadersFrame:
		call := &Call{Authority: frame.PseudoValue("authority"), Path: frame.PseudoValue("path"), Header: make(http.Header)}
		for _, field := range frame.RegularFields() {
			call.Header.Add(field.Name, field.Value)
		}
		t.calls[stream] = call
		ended = frame.StreamEnded()
	case *http2.DataFrame:
		if call, ok := t.calls[stream]; ok {
			call.Body = append(call.Body, frame.Data()...)
			ended = frame.StreamEnded()
		}
	case *http2.RSTStreamFrame:
		delete(t.calls, stream)
	}
	if ended {
		call := t.calls[stream]
		delete(t.calls, stream)
		t.observe(*call, nil)
	}
}
