package main

import (
	"context"
	"io"

	"github.com/go-kratos/kratos/v2/log"
	"github.com/go-kratos/kratos/v2/middleware/recovery"
	"github.com/go-kratos/kratos/v2/transport/grpc"

	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

func serveKratos(ctx context.Context, _ string, ready func(string)) error {
	log.SetLogger(log.NewStdLogger(io.Discard))
	listener, err := listen(ctx)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.Listener(listener), grpc.Timeout(deadline), grpc.Middleware(recovery.Recovery()))
	testv1.RegisterEchoServiceServer(server, echo{})
	stop := context.AfterFunc(ctx, func() { _ = server.Stop(context.WithoutCancel(ctx)) })
	defer stop()
	ready(listener.Addr().String())
	return server.Start(ctx)
}

func dialKratos(ctx context.Context, _, address string) (client, func() error, error) {
	log.SetLogger(log.NewStdLogger(io.Discard))
	conn, err := grpc.DialInsecure(ctx, grpc.WithEndpoint(address), grpc.WithTimeout(deadline), grpc.WithMiddleware(recovery.Recovery()))
	if err != nil {
		return nil, nil, err
	}
	return generated(testv1.NewEchoServiceClient(conn)), conn.Close, nil
}
