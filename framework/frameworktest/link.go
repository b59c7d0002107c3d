package frameworktest

import (
	"bytes"
	"io"
	"maps"
	"net"
	"slices"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// link is a connection of a bus to an instance. It forwards the frames of HTTP/2, and lets
// faults strike at single streams of it. If a connection is encrypted it forwards bytes.
type link struct {
	generation     *generation
	client, server *end
	closed         chan struct{}
	cutOnce        sync.Once

	mu      sync.Mutex // guards the field below
	streams map[uint32]*stream
}

// newLink returns the link between two connections.
func newLink(g *generation, client, server net.Conn) *link {
	return &link{
		generation: g, client: newEnd(client), server: newEnd(server),
		closed: make(chan struct{}), streams: make(map[uint32]*stream),
	}
}

// start begins to forward. The caller has added the link to those that run in the network.
func (l *link) start() {
	l.generation.add(l)
	go func() {
		defer l.generation.instance.kit.network.running.Done()
		defer l.generation.remove(l)
		defer l.cut()
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(l.client.conn, preface); err != nil {
			return
		}
		if _, err := l.server.conn.Write(preface); err != nil {
			return
		}
		forward := l.forward
		if string(preface) != http2.ClientPreface {
			l.generation.instance.kit.strikes.encrypted.Store(true)
			forward = l.forwardBytes
		}
		var replies sync.WaitGroup
		replies.Go(func() { forward(l.server, l.client, l.reply) })
		forward(l.client, l.server, l.request)
		replies.Wait()
	}()
}

// cut ends the connection at both ends. What is on its way is lost.
func (l *link) cut() {
	l.cutOnce.Do(func() {
		close(l.closed)
		_ = l.client.conn.Close() // there is nothing left to be written
		_ = l.server.conn.Close() // the same
	})
}

// forward forwards frames until one end ends. handle returns whether to forward a frame.
func (l *link) forward(from, to *end, handle func(http2.Frame) bool) {
	defer l.cut()
	for {
		frame, err := from.framer.ReadFrame()
		if err != nil {
			return
		}
		l.generation.gate.pass(l.closed)
		if handle(frame) && to.write(frame) != nil {
			return
		}
	}
}

// forwardBytes forwards bytes until one end ends.
func (l *link) forwardBytes(from, to *end, _ func(http2.Frame) bool) {
	defer l.cut()
	buffer := make([]byte, bufferBytes)
	for {
		n, err := from.conn.Read(buffer)
		l.generation.gate.pass(l.closed)
		if _, wrong := to.conn.Write(buffer[:n]); err != nil || wrong != nil {
			return
		}
	}
}

// request handles a frame of the client.
func (l *link) request(frame http2.Frame) bool {
	id := frame.Header().StreamID
	l.mu.Lock()
	s := l.streams[id]
	l.mu.Unlock()
	if header, ok := frame.(*http2.MetaHeadersFrame); ok && s == nil {
		s = l.opened(header)
	}
	return s == nil || s.request(frame)
}

// opened handles the headers of a request, and returns its stream if a fault is to strike.
func (l *link) opened(header *http2.MetaHeadersFrame) *stream {
	strikes := &l.generation.instance.kit.strikes
	if header.PseudoValue("path") == onecallv1.Calls_Settle_FullMethodName {
		l.forget(header)
		return nil
	}
	struck := strikes.find(valueOf(header, strikeKey))
	if struck == nil {
		return nil
	}
	if !struck.fault.atHandler {
		header.Fields = without(header.Fields, strikeKey)
	}
	s := &stream{link: l, id: header.StreamID, strike: struck, identity: valueOf(header, atmostonce.CallKey)}
	struck.sent(header.Fields, l.generation)
	if struck.fault.request == nil && struck.fault.reply == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams[s.id] = s
	return s
}

// forget changes the question what became of a call, if the instance is not to say: with
// another session it learns nothing.
func (l *link) forget(header *http2.MetaHeadersFrame) {
	value := valueOf(header, atmostonce.CallKey)
	if _, forgotten := l.generation.instance.kit.network.forgotten.Load(value); !forgotten {
		return
	}
	asked, err := atmostonce.ParseIdentity(value)
	if err != nil {
		return
	}
	asked.Session[len(asked.Session)-1]++
	for i := range header.Fields {
		if header.Fields[i].Name == atmostonce.CallKey {
			header.Fields[i].Value = asked.Value()
		}
	}
}

// reply handles a frame of the instance.
func (l *link) reply(frame http2.Frame) bool {
	if _, ok := frame.(*http2.GoAwayFrame); ok {
		l.mu.Lock()
		streams := slices.Collect(maps.Values(l.streams))
		l.mu.Unlock()
		for _, s := range streams {
			s.release() // the instance has begun to drain
		}
	}
	l.mu.Lock()
	s := l.streams[frame.Header().StreamID]
	l.mu.Unlock()
	return s == nil || s.reply(frame)
}

// end is one end of a link.
type end struct {
	conn   net.Conn
	framer *http2.Framer // one goroutine reads; the lock guards writing

	mu      sync.Mutex // guards the fields below, and is held while a frame is written
	block   bytes.Buffer
	encoder *hpack.Encoder
}

// headerTable is the size of HPACK's table with which ends begin.
const headerTable = 4096

func newEnd(conn net.Conn) *end {
	e := &end{conn: conn, framer: http2.NewFramer(conn, conn)}
	e.framer.ReadMetaHeaders = hpack.NewDecoder(headerTable, nil)
	e.encoder = hpack.NewEncoder(&e.block)
	e.encoder.SetMaxDynamicTableSize(0) // so that headers can be left out and delayed
	return e
}

// write writes a frame.
func (e *end) write(frame http2.Frame) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return e.writeHeaders(f.StreamID, f.StreamEnded(), f.Fields)
	case *http2.DataFrame:
		return e.framer.WriteData(f.StreamID, f.StreamEnded(), f.Data())
	case *http2.SettingsFrame:
		return e.writeSettings(f)
	case *http2.PingFrame:
		return e.framer.WritePing(f.IsAck(), f.Data)
	case *http2.WindowUpdateFrame:
		return e.framer.WriteWindowUpdate(f.StreamID, f.Increment)
	case *http2.RSTStreamFrame:
		return e.framer.WriteRSTStream(f.StreamID, f.ErrCode)
	case *http2.GoAwayFrame:
		return e.framer.WriteGoAway(f.LastStreamID, f.ErrCode, f.DebugData())
	default: // gRPC uses no other
		return nil
	}
}

// writeSettings writes settings without that of the header table: both ends keep the size
// with which they begin. The lock is held.
func (e *end) writeSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return e.framer.WriteSettingsAck()
	}
	var settings []http2.Setting
	for i := range f.NumSettings() {
		if setting := f.Setting(i); setting.ID != http2.SettingHeaderTableSize {
			settings = append(settings, setting)
		}
	}
	return e.framer.WriteSettings(settings...)
}

// frameBytes is the largest frame that every end accepts.
const frameBytes = 16 << 10

// writeHeaders writes headers, in several frames if they are large. The lock is held.
func (e *end) writeHeaders(id uint32, last bool, fields []hpack.HeaderField) error {
	e.block.Reset()
	for _, field := range fields {
		if err := e.encoder.WriteField(field); err != nil {
			return err
		}
	}
	first := e.block.Next(frameBytes)
	err := e.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: last, EndHeaders: e.block.Len() == 0})
	for err == nil && e.block.Len() > 0 {
		next := e.block.Next(frameBytes)
		err = e.framer.WriteContinuation(id, e.block.Len() == 0, next)
	}
	return err
}

// answer ends a stream with an error that only a proxy between the ends knows of.
func (e *end) answer(id uint32, fields []hpack.HeaderField) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.writeHeaders(id, true, fields) // if the connection has ended, so has the stream
}

// credit has the end send as many bytes again as a frame has that was left out.
func (e *end) credit(frame http2.Frame) {
	data, ok := frame.(*http2.DataFrame)
	if !ok || data.Length == 0 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, id := range []uint32{0, data.StreamID} {
		_ = e.framer.WriteWindowUpdate(id, data.Length) // if the connection has ended, nothing is sent any more
	}
}

// reset ends a stream.
func (e *end) reset(id uint32) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_ = e.framer.WriteRSTStream(id, http2.ErrCodeCancel) // if the connection has ended, so has the stream
}

// valueOf returns a header's value, "" if there is none.
func valueOf(header *http2.MetaHeadersFrame, key string) string {
	for _, field := range header.RegularFields() {
		if field.Name == key {
			return field.Value
		}
	}
	return ""
}

// without returns fields without those of a name.
func without(fields []hpack.HeaderField, name string) []hpack.HeaderField {
	var kept []hpack.HeaderField
	for _, field := range fields {
		if field.Name != name {
			kept = append(kept, field)
		}
	}
	return kept
}

// kept returns a frame that stays valid when the next one is read.
func kept(frame http2.Frame) func(*end) error {
	data, ok := frame.(*http2.DataFrame)
	if !ok {
		return func(e *end) error { return e.write(frame) }
	}
	id, last, copied := data.StreamID, data.StreamEnded(), bytes.Clone(data.Data())
	return func(e *end) error {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.framer.WriteData(id, last, copied)
	}
}

// isLast reports whether a frame is the last of its direction of a stream.
func isLast(frame http2.Frame) bool {
	switch f := frame.(type) {
	case *http2.MetaHeadersFrame:
		return f.StreamEnded()
	case *http2.DataFrame:
		return f.StreamEnded()
	case *http2.RSTStreamFrame:
		return true
	default:
		return false
	}
}
