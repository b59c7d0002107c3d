package framework_test

import (
	"bytes"
	"encoding/binary"
	"net"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/protobuf/proto"
)

// raw is a client that writes HTTP/2 frames itself, and so can do what grpc-go's
// never does: go silent, or begin a call after a GOAWAY.
type raw struct {
	t       *testing.T
	framer  *http2.Framer
	headers bytes.Buffer
	encoder *hpack.Encoder
	stream  uint32
}

// newRaw begins to speak HTTP/2 on a connection, which the test's end closes.
func newRaw(t *testing.T, conn net.Conn, settings ...http2.Setting) *raw {
	t.Helper()
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	r := &raw{t: t, framer: http2.NewFramer(conn, conn)}
	r.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	r.encoder = hpack.NewEncoder(&r.headers)
	r.check(r.framer.WriteSettings(settings...))
	return r
}

func (r *raw) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// begin begins a call and returns its stream.
func (r *raw) begin(path string, headers ...string) uint32 {
	r.t.Helper()
	r.check(r.tryBegin(path, headers...))
	return r.stream
}

// tryBegin begins a call. It returns an error if the server closes the connection
// before all headers are written.
func (r *raw) tryBegin(path string, headers ...string) error {
	r.t.Helper()
	r.headers.Reset()
	for _, field := range []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: path},
		{Name: ":authority", Value: "test"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	} {
		r.check(r.encoder.WriteField(field))
	}
	for i := 0; i < len(headers); i += 2 {
		r.check(r.encoder.WriteField(hpack.HeaderField{Name: headers[i], Value: headers[i+1]}))
	}
	if r.stream == 0 {
		r.stream = 1
	} else {
		r.stream += 2
	}
	block := r.headers.Bytes()
	first := block[:min(len(block), 16<<10)]
	rest := block[len(first):]
	err := r.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: r.stream, BlockFragment: first, EndHeaders: len(rest) == 0})
	for err == nil && len(rest) > 0 {
		some := rest[:min(len(rest), 16<<10)]
		rest = rest[len(some):]
		err = r.framer.WriteContinuation(r.stream, len(rest) == 0, some)
	}
	return err
}

// send sends a stream's only message.
func (r *raw) send(stream uint32, message proto.Message) {
	r.t.Helper()
	encoded, err := proto.Marshal(message)
	r.check(err)
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(encoded)))
	r.check(r.framer.WriteData(stream, true, append(frame, encoded...)))
}

// until reads frames until it finds a wanted one, and returns it. It sends no replies.
func (r *raw) until(wanted func(http2.Frame) bool) http2.Frame {
	r.t.Helper()
	for {
		frame, err := r.framer.ReadFrame()
		r.check(err)
		if wanted(frame) {
			return frame
		}
	}
}

// trailers reads until a stream has ended and returns its trailers.
func (r *raw) trailers(stream uint32) map[string]string {
	r.t.Helper()
	frame := r.until(func(frame http2.Frame) bool {
		headers, ok := frame.(*http2.MetaHeadersFrame)
		return ok && headers.StreamID == stream && headers.StreamEnded()
	})
	trailers := make(map[string]string)
	for _, field := range frame.(*http2.MetaHeadersFrame).Fields {
		trailers[field.Name] = field.Value
	}
	return trailers
}
