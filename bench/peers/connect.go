package main

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"

	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// plaintext returns HTTP/2 without TLS.
func plaintext() *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return protocols
}

func serveConnect(ctx context.Context, _ string, ready func(string)) error {
	listener, err := listen(ctx)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(path, connect.NewUnaryHandler(path, func(_ context.Context, req *connect.Request[testv1.EchoRequest]) (*connect.Response[testv1.EchoResponse], error) {
		return connect.NewResponse(&testv1.EchoResponse{Text: req.Msg.GetText()}), nil
	}))
	server := &http.Server{Handler: mux, Protocols: plaintext(), ReadHeaderTimeout: deadline}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	ready(listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func dialConnect(_ context.Context, _, address string) (client, func() error, error) {
	transport := &http.Transport{Protocols: plaintext()}
	made := connect.NewClient[testv1.EchoRequest, testv1.EchoResponse](&http.Client{Transport: transport}, "http://"+address+path)
	call := func(ctx context.Context, text string) (string, error) {
		reply, err := made.CallUnary(ctx, connect.NewRequest(&testv1.EchoRequest{Text: text}))
		if err != nil {
			return "", err
		}
		return reply.Msg.GetText(), nil
	}
	return within(call), func() error { transport.CloseIdleConnections(); return nil }, nil
}
