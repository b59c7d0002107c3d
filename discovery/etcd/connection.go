package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
)

// How the connection to etcd is kept: soon back after a fault, and a member
// that is silent is noticed within pingEvery + pingTimeout.
const (
	reconnectBase  = 100 * time.Millisecond
	reconnectMax   = 800 * time.Millisecond
	connectTimeout = 3 * time.Second
	pingEvery      = 10 * time.Second
	pingTimeout    = 3 * time.Second
)

// connection is the one client of a registry, made at its first use because
// etcd's client asks for a token, if it needs one, while it is constructed.
type connection struct {
	config Config
	// life ends with the registry.
	life context.Context //nolint:containedctx // a connection is a running thing
	// making is held by the goroutine that makes the client.
	making chan struct{}
	client atomic.Pointer[clientv3.Client]
}

func newConnection(life context.Context, config Config) *connection {
	return &connection{config: config, life: life, making: make(chan struct{}, 1)}
}

// ready gives the client once it has a connection to a member; when there is
// none, it says why within ctx. etcd's client on its own would wait in
// silence.
func (c *connection) ready(ctx context.Context) (*clientv3.Client, error) {
	client, err := c.get(ctx)
	if err != nil {
		return nil, err
	}
	conn := client.ActiveConnection()
	for {
		state := conn.GetState()
		switch state {
		case connectivity.Ready:
			return client, nil
		case connectivity.TransientFailure:
			return nil, whyNot(ctx, conn)
		case connectivity.Idle:
			conn.Connect()
		case connectivity.Connecting, connectivity.Shutdown:
		}
		if !conn.WaitForStateChange(ctx, state) {
			return nil, fmt.Errorf("no answer yet, the connection is %s: %w", state, ctx.Err())
		}
	}
}

// whyNot gives the reason why a connection is broken: that of a call which
// does not wait for it.
func whyNot(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(false))
	if err == nil {
		return errors.New("the connection has just come back")
	}
	return err
}

// get gives the client, and makes it if there is none.
func (c *connection) get(ctx context.Context) (*clientv3.Client, error) {
	if client := c.client.Load(); client != nil {
		return client, nil
	}
	select {
	case c.making <- struct{}{}:
		defer func() { <-c.making }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if client := c.client.Load(); client != nil {
		return client, nil
	}
	if err := c.life.Err(); err != nil {
		return nil, err
	}
	client, err := clientv3.New(clientv3.Config{
		Context:              c.life,
		Endpoints:            c.config.Endpoints,
		DialTimeout:          connectTimeout,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: pingTimeout,
		TLS:                  c.config.TLS,
		Username:             c.config.Username,
		Password:             c.config.Password,
		Logger:               zap.NewNop(), // what matters is told by the registrar and the watches
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectBase, Multiplier: 2, Jitter: 0.2, MaxDelay: reconnectMax},
			MinConnectTimeout: connectTimeout,
		})},
	})
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	c.client.Store(client)
	return client, nil
}

// close ends the client, if there is one. The registry's life has ended and
// nobody uses the connection.
func (c *connection) close() error {
	client := c.client.Swap(nil)
	if client == nil {
		return nil
	}
	// Close reports that the client's context has ended, which is why we are
	// here.
	_ = client.Close()
	return nil
}
