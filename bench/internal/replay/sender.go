package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"google.golang.org/grpc/codes"
)

// Result is the answer to a copy.
type Result struct {
	// Code is gRPC's status code; Unavailable if the answer is not complete.
	Code codes.Code
	// Err is why the answer is not complete, else nil.
	Err error
}

// Sender sends copies of calls, over TCP connections of its own. Its methods are
// safe for concurrent use.
type Sender struct {
	transport *http.Transport
}

// NewSender returns a sender. Close closes it.
func NewSender() *Sender {
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	return &Sender{transport: &http.Transport{Protocols: &protocols, DisableCompression: true}}
}

// Send sends a call to an address, once, with its own headers and body, and waits
// for the answer.
func (s *Sender) Send(ctx context.Context, address string, call Call) Result {
	answer, err := s.transport.RoundTrip((&http.Request{
		Method: http.MethodPost,
		URL:    &url.URL{Scheme: "http", Host: address, Path: call.Path},
		Host:   call.Authority,
		Header: call.Header.Clone(),
		// The transport sends a second time only if it can read the body again, and
		// sends a content-length header only if the length is known.
		Body:          io.NopCloser(bytes.NewReader(call.Body)),
		ContentLength: -1,
	}).WithContext(ctx))
	if err != nil {
		return incomplete(err)
	}
	// The trailer is complete only after the whole body was read.
	_, err = io.Copy(io.Discard, answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil {
		return incomplete(err)
	}
	trailer := answer.Trailer
	if answer.Header.Get("Grpc-Status") != "" { // an answer without a message has its status in the header
		trailer = answer.Header
	}
	code, err := strconv.ParseUint(trailer.Get("Grpc-Status"), 10, 32)
	if err != nil {
		return incomplete(fmt.Errorf("the answer has the HTTP status %q and no gRPC status", answer.Status))
	}
	return Result{Code: codes.Code(code)}
}

// Close closes idle connections. Calls in progress end with their contexts.
func (s *Sender) Close() { s.transport.CloseIdleConnections() }

func incomplete(err error) Result {
	return Result{Code: codes.Unavailable, Err: fmt.Errorf("replay: %w", err)}
}
