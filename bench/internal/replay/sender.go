package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/grpc/codes"
)

// Dial connects to an address.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Result is how a call that was sent was answered.
type Result struct {
	// Code is gRPC's; Unavailable when there was no whole answer.
	Code codes.Code
	// Message is gRPC's, as it stands on the wire.
	Message string
	// Header, Body and Trailer are the answer. An error alone has its status
	// in the header.
	Header, Trailer http.Header
	Body            []byte
	// Err is why there was no whole answer, else nil.
	Err error
}

// Sender sends calls, over connections of its own. Its methods are safe for all
// goroutines.
type Sender struct {
	transport *http.Transport
}

// NewSender gives a sender that connects with dial; nil is TCP. Close ends it.
func NewSender(dial Dial) *Sender {
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &Sender{transport: &http.Transport{DialContext: dial, Protocols: &protocols, DisableCompression: true}}
}

// Send sends a call to an address, once, with its own headers and body, and
// waits for the answer.
func (s *Sender) Send(ctx context.Context, address string, call Call) Result {
	answer, err := s.transport.RoundTrip((&http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Scheme: "http", Host: address, Path: call.Path},
		Host:   call.Authority,
		Header: call.Header.Clone(),
		// A body that cannot be had again keeps the transport from sending
		// twice, and one of unknown length from telling the length.
		Body:          io.NopCloser(bytes.NewReader(call.Body)),
		ContentLength: -1,
	}).WithContext(ctx))
	if err != nil {
		return broken(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return broken(err)
	}
	result := Result{Header: answer.Header, Trailer: answer.Trailer, Body: body}
	said := answer.Trailer
	if answer.Header.Get("Grpc-Status") != "" {
		said = answer.Header
	}
	code, err := strconv.ParseUint(said.Get("Grpc-Status"), 10, 32)
	if err != nil {
		return broken(fmt.Errorf("the answer has HTTP's status %q and no status of gRPC's", answer.Status))
	}
	result.Code, result.Message = codes.Code(code), said.Get("Grpc-Message")
	return result
}

// Transport gives what calls are sent through, for what is no unary call.
func (s *Sender) Transport() http.RoundTripper { return s.transport }

// Close ends idle connections. Calls under way end by their contexts.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }

func broken(err error) Result {
	return Result{Code: codes.Unavailable, Message: err.Error(), Err: fmt.Errorf("replay: %w", err)}
}
