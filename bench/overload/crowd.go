package main

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// dialers is how many connections are made at the same time.
const dialers = 64

// crowd is a number of connections that make no calls.
type crowd struct {
	answered, refused int
	conns             []net.Conn
}

// gather makes connections to an address, and says no more on them than HTTP/2 demands. It
// returns when the service has answered or closed each.
func gather(ctx context.Context, address string, count int) (*crowd, error) {
	var (
		all  sync.WaitGroup
		next atomic.Int64
		mu   sync.Mutex // guards out and errs
		out  crowd
		errs []error
	)
	for range min(dialers, count) {
		all.Go(func() {
			for next.Add(1) <= int64(count) && ctx.Err() == nil {
				conn, answered, err := greet(ctx, address)
				mu.Lock()
				switch {
				case err != nil:
					errs = append(errs, err)
				case answered:
					out.answered++
					out.conns = append(out.conns, conn)
				default:
					out.refused++
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return &out, errors.Join(errs...)
}

// greet makes a connection, and reports whether the service answers on it.
func greet(ctx context.Context, address string) (_ net.Conn, answered bool, err error) {
	const patience = 10 * time.Second
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, false, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err = io.WriteString(conn, http2.ClientPreface); err == nil {
		framer := http2.NewFramer(conn, conn)
		if err = framer.WriteSettings(); err == nil {
			_, err = framer.ReadFrame()
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, false, nil //nolint:nilerr // the service closed it
	}
	return conn, true, conn.SetDeadline(time.Time{})
}

// leave closes all connections.
func (c *crowd) leave() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}
