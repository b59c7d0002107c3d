package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"google.golang.org/grpc/connectivity"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
	"github.com/onecall-dev/onecall/framework/internal/callerr"
	"github.com/onecall-dev/onecall/framework/internal/plaintext"
)

// links are the connections of a channel with their last known states. Its methods
// are safe for all goroutines.
type links struct {
	api string
	// plain reports whether the bus speaks plain text because it has no credentials.
	plain *atomic.Bool

	mu   sync.Mutex // guards the field below
	seen map[any]resolver.Connection
}

func newLinks(api string, plain *atomic.Bool) *links {
	return &links{api: api, plain: plain, seen: make(map[any]resolver.Connection)}
}

// observe records the state of a connection. Its last error is kept until the
// connection is READY.
func (l *links) observe(conn resolver.Connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if conn.State == connectivity.Shutdown {
		delete(l.seen, conn.ID)
		return
	}
	if conn.Err == nil && conn.State != connectivity.Ready {
		conn.Err = l.seen[conn.ID].Err
	}
	l.seen[conn.ID] = conn
}

// err returns a *[discovery.ConnectionError] if there is no connection to any instance, and nil
// if there is one or no attempt was made.
func (l *links) err() *discovery.ConnectionError {
	l.mu.Lock()
	seen := slices.Collect(maps.Values(l.seen))
	l.mu.Unlock()
	if len(seen) == 0 {
		return nil
	}
	found := &discovery.ConnectionError{API: l.api}
	for _, conn := range seen { // without the lock: an error's methods may be the program's own
		if conn.State == connectivity.Ready {
			return nil
		}
		found.Instances = append(found.Instances, discovery.UnconnectedError{Address: conn.Address, Cause: conn.Err, Text: callerr.ShownText(l.explain(conn.Err))})
	}
	slices.SortFunc(found.Instances, func(a, b discovery.UnconnectedError) int { return cmp.Compare(a.Address, b.Address) })
	return found
}

// explain returns why there is no connection, and the remedy.
func (l *links) explain(err error) string {
	if err == nil {
		return "it was not reached yet: it may be frozen or overloaded, or a firewall drops what is sent to it"
	}
	if text := explainCertificate(err, l.api); text != "" {
		return text
	}
	var (
		plain    tls.RecordHeaderError
		refused  *net.OpError
		unknown  *net.DNSError
		deadline interface{ Timeout() bool }
	)
	switch {
	case errors.Is(err, plaintext.ErrExposed):
		return plaintext.ErrExposed.Error()
	case errors.As(err, &plain):
		return "it answers in plain text, and this bus speaks TLS: serve it with option TLS, or leave that and the credentials out of the bus"
	case errors.As(err, &refused) && refused.Op == "remote error":
		return fmt.Sprintf("it refused the certificate of this bus, or that there is none: %v: set Cert and Key in option TLS, to a certificate that is valid and that its authority has signed", refused.Err)
	case errors.As(err, &unknown):
		return fmt.Sprintf("its host is not known here: %v: have the instance register an address that callers can resolve (AdvertiseAs)", unknown)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: the instance has ended, or it registered an address that is not its own (AdvertiseAs): connection refused"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &deadline) && deadline.Timeout():
		return "there was no answer in time: it is frozen or overloaded, a firewall drops what is sent to it, or something that speaks no gRPC listens there"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		if !l.plain.Load() {
			return fmt.Sprintf("it ended the connection before it said anything: does it speak TLS, demand a certificate of its clients, or speak no gRPC at all? (%v)", err)
		}
		return fmt.Sprintf("it ended the connection before it said anything, as services do that speak TLS, which this bus does not: "+
			"set option TLS (%v)", err)
	default:
		return err.Error()
	}
}

// explainCertificate returns why an instance's certificate is not valid, and "" if the
// error has another cause.
func explainCertificate(err error, api string) string {
	var (
		name      x509.HostnameError
		authority x509.UnknownAuthorityError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &name):
		return fmt.Sprintf("its certificate has another name: %v: issue one for the API's name, %s, or say with grpc.WithAuthority in DialOptions which name it has", name, api)
	case errors.As(err, &authority):
		return fmt.Sprintf("its certificate is not trusted: %v: put the authority that signed it into the file CA of option TLS", authority)
	case errors.As(err, &invalid):
		return fmt.Sprintf("its certificate is not valid: %v: renew it, and compare the clocks of both machines", invalid)
	default:
		return ""
	}
}
