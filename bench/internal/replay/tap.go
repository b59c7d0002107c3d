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
	// tableSize is larger than the HPACK table of any server's settings.
	tableSize = 1 << 20
	maxFrame  = 1<<24 - 1
)

// Tap returns a connection that calls observe with each call whose request was
// written completely. It does so before the last bytes leave, so that a copy may
// arrive first. If the tap cannot parse what is written, it calls observe with an
// error and without a call, and then not again.
//
// The connection is a client's, new, and not encrypted. Observe must return quickly.
func Tap(conn net.Conn, observe func(Call, error)) net.Conn {
	t := &tap{Conn: conn, observe: observe, calls: make(map[uint32]*Call), preface: len(http2.ClientPreface)}
	t.framer = http2.NewFramer(nil, &t.unread)
	t.framer.SetMaxReadFrameSize(maxFrame)
	decoder := hpack.NewDecoder(4096, nil)
	decoder.SetAllowedMaxDynamicTableSize(tableSize)
	t.framer.ReadMetaHeaders = decoder
	return t
}

// tap parses what is written. Only Write uses its fields, and grpc-go writes to a
// connection from one goroutine.
type tap struct {
	net.Conn

	observe func(Call, error)
	preface int // bytes of the client preface that are still to come
	unread  bytes.Buffer
	framer  *http2.Framer
	calls   map[uint32]*Call // that are not complete yet, by stream
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

// whole reports whether data begins with a complete frame. A HEADERS frame is
// complete with all its CONTINUATION frames.
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
