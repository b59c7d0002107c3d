package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/grpc/metadata"
)

// errEnded is the error of steps on a connection that has ended.
var errEnded = errors.New("peer: the connection has ended")

// Connection is a connection of a peer. Its methods are safe for concurrent use.
type Connection struct {
	peer   *Peer
	conn   net.Conn
	number int

	// streams are the open streams. Only the goroutine of serve uses the map.
	streams map[uint32]*Stream

	// mu guards the fields below. The peer's lock may be taken under it.
	mu     sync.Mutex
	framer *http2.Framer // guarded for writing only: only serve reads
	block  bytes.Buffer
	packer *hpack.Encoder
}

func newConnection(p *Peer, conn net.Conn) *Connection {
	c := &Connection{peer: p, conn: conn, streams: make(map[uint32]*Stream), framer: http2.NewFramer(conn, conn)}
	c.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.packer = hpack.NewEncoder(&c.block)
	return c
}

// Number returns the number of the connection at its peer, from 1.
func (c *Connection) Number() int { return c.number }

// GoAway sends GOAWAY. Streams above last count as not processed.
func (c *Connection) GoAway(last uint32, code http2.ErrCode) error {
	return c.write(func(framer *http2.Framer) error { return framer.WriteGoAway(last, code, nil) })
}

// Close closes the connection. What was written still arrives, unless some of what
// arrived is unread.
func (c *Connection) Close() { _ = c.conn.Close() }

// Abort resets a TCP connection: data in transit is lost in both directions. A
// connection of another kind is closed.
func (c *Connection) Abort() {
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only when it is closed
	}
	c.Close()
}

// write writes frames without frames of other goroutines between them.
func (c *Connection) write(frames func(*http2.Framer) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := frames(c.framer); err != nil {
		return errors.Join(errEnded, err)
	}
	return nil
}

// writeHeaders writes a block of headers. Fields alternates names and values.
func (c *Connection) writeHeaders(stream uint32, end bool, fields ...string) error {
	return c.write(func(framer *http2.Framer) error {
		c.block.Reset()
		for i := 0; i+1 < len(fields); i += 2 {
			if err := c.packer.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
				return err
			}
		}
		return framer.WriteHeaders(http2.HeadersFrameParam{
			StreamID: stream, BlockFragment: c.block.Bytes(), EndStream: end, EndHeaders: true,
		})
	})
}

// serve reads frames until the connection ends, and ends its streams.
func (c *Connection) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.Close()
	if err := c.greet(); err != nil {
		if !errors.Is(err, errEnded) {
			c.peer.fail(fmt.Errorf("connection %d: %w", c.number, err))
		}
		return
	}
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return
		}
		if err := c.take(ctx, frame); err != nil {
			return
		}
	}
}

// greet does what precedes the client's first frame.
func (c *Connection) greet() error {
	if c.peer.config.Accepted != nil {
		if err := c.peer.config.Accepted(c); err != nil {
			return err
		}
	}
	if err := c.write(func(framer *http2.Framer) error { return framer.WriteSettings(c.peer.config.Settings...) }); err != nil {
		return err
	}
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c.conn, preface); err != nil {
		return errors.Join(errEnded, err)
	}
	if string(preface) != http2.ClientPreface {
		return fmt.Errorf("the client does not speak HTTP/2: it began with %q", preface)
	}
	if c.peer.config.Greeted == nil {
		return nil
	}
	return c.peer.config.Greeted(c)
}

// take handles one frame.
func (c *Connection) take(ctx context.Context, frame http2.Frame) error {
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			return c.write((*http2.Framer).WriteSettingsAck)
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			return c.write(func(framer *http2.Framer) error { return framer.WritePing(true, frame.Data) })
		}
	case *http2.MetaHeadersFrame:
		c.begin(ctx, frame)
	case *http2.DataFrame:
		return c.data(frame)
	case *http2.RSTStreamFrame:
		if found, ok := c.streams[frame.StreamID]; ok {
			code := frame.ErrCode
			c.peer.change(func() { found.request.Reset = &code })
			found.cancel()
		}
	}
	return nil
}

// healthWatch is a path of gRPC's health service. A peer does not record such requests.
const healthWatch = "/grpc.health.v1.Health/Watch"

// begin starts a stream and its script.
func (c *Connection) begin(ctx context.Context, frame *http2.MetaHeadersFrame) {
	if _, ok := c.streams[frame.StreamID]; ok { // trailers, which gRPC clients do not send
		return
	}
	request := &Request{Connection: c.number, Stream: frame.StreamID, Path: frame.PseudoValue("path"), Metadata: metadata.MD{}, Whole: frame.StreamEnded()}
	if request.Path == healthWatch {
		c.watch(frame.StreamID)
		return
	}
	for _, field := range frame.RegularFields() {
		name := strings.ToLower(field.Name)
		request.Metadata[name] = append(request.Metadata[name], field.Value)
	}
	ctx, cancel := context.WithCancel(ctx)
	begun := &Stream{connection: c, request: request, whole: make(chan struct{}), cancel: cancel}
	if request.Whole {
		close(begun.whole)
	}
	c.streams[frame.StreamID] = begun
	c.peer.arrived(request)
	steps := c.peer.script(c.peer.snapshot(request))
	c.peer.running.Go(func() {
		defer cancel()
		begun.run(ctx, steps)
	})
}

// watch answers a request of the health service: that the peer serves, if it names
// itself, else that it does not have the service.
func (c *Connection) watch(stream uint32) {
	if c.peer.config.Names == nil {
		_ = c.writeHeaders(stream, true, ":status", "200", "content-type", "application/grpc", "grpc-status", "12")
		return
	}
	if c.writeHeaders(stream, false, ":status", "200", "content-type", "application/grpc", incarnationKey, c.peer.config.Names(c)) == nil {
		serving := []byte{0, 0, 0, 0, 2, 8, 1} // gRPC's prefix, and field 1 with the value 1
		_ = c.write(func(framer *http2.Framer) error { return framer.WriteData(stream, false, serving) })
	}
}

// data adds a piece of a request, and opens the flow control windows by its length.
func (c *Connection) data(frame *http2.DataFrame) error {
	if found, ok := c.streams[frame.StreamID]; ok {
		c.peer.change(func() {
			found.request.Body = append(found.request.Body, frame.Data()...)
			found.request.Whole = frame.StreamEnded()
		})
		if frame.StreamEnded() {
			close(found.whole)
		}
	}
	if frame.Length == 0 {
		return nil
	}
	return c.write(func(framer *http2.Framer) error {
		if err := framer.WriteWindowUpdate(0, frame.Length); err != nil || frame.StreamEnded() {
			return err
		}
		return framer.WriteWindowUpdate(frame.StreamID, frame.Length)
	})
}
