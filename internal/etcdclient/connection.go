package etcdclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
)

// The connection is soon made again after a failure. A member that no longer answers is
// noticed within pingEvery + pingTimeout.
const (
	reconnectBase  = 100 * time.Millisecond
	reconnectMax   = 800 * time.Millisecond
	connectTimeout = 3 * time.Second
	pingEvery      = 10 * time.Second
	pingTimeout    = 3 * time.Second
)

// MaxAnswer is how many bytes a response of etcd may have. No request of this module has
// a larger response, unless other programs have written it into etcd.
const MaxAnswer = 32 << 20

var errClosed = errors.New("the connection to etcd is closed")

// Connection is one client of etcd. The client is made at its first use, because its
// constructor requests a token if a user is configured. The methods are safe for all
// goroutines.
type Connection struct {
	config Config
	// life ends with the connection's owner.
	life context.Context //nolint:containedctx // a connection is a running thing
	// making has one element while a goroutine makes the client, or Close runs.
	making chan struct{}
	client atomic.Pointer[clientv3.Client]
	begun  sync.WaitGroup // the goroutine of Begin
}

// New returns a connection that lasts until life ends. After that its owner calls Close.
// config must come from [Config.WithDefaults]. New does no I/O.
func New(life context.Context, config Config) *Connection {
	return &Connection{config: config, life: life, making: make(chan struct{}, 1)}
}

// Begin begins to connect, so that the first request waits less. It does not wait itself, and
// a failure is left to the first request.
func (c *Connection) Begin() {
	c.begun.Go(func() {
		if client, err := c.Get(c.life); err == nil {
			client.ActiveConnection().Connect()
		}
	})
}

// Life returns the context that the connection was made with.
func (c *Connection) Life() context.Context { return c.life }

// Ready returns the client when it is connected to a member. If it cannot connect, or ctx
// ends, Ready returns why. etcd's client by itself would wait without an error.
func (c *Connection) Ready(ctx context.Context) (*clientv3.Client, error) {
	client, err := c.Get(ctx)
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
			return nil, c.whyNot(ctx, conn)
		case connectivity.Idle:
			conn.Connect()
		case connectivity.Shutdown:
			return nil, errClosed
		case connectivity.Connecting:
		}
		if !conn.WaitForStateChange(ctx, state) {
			return nil, c.explain(fmt.Errorf("no connection yet: %w", ctx.Err()))
		}
	}
}

// whyNot returns why a connection has failed: the error of a call that does not wait for
// the connection.
func (c *Connection) whyNot(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(false))
	if err == nil {
		return errors.New("the connection has just come back")
	}
	return c.explain(err)
}

// explain adds a hint to the error of a connection, unless the connection's life has
// ended.
func (c *Connection) explain(err error) error {
	if c.life.Err() != nil {
		return err
	}
	return c.config.explain(err)
}

// Get returns the client, and makes it if there is none, within ctx.
func (c *Connection) Get(ctx context.Context) (*clientv3.Client, error) {
	if client := c.client.Load(); client != nil {
		return client, nil
	}
	select {
	case c.making <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if client := c.client.Load(); client != nil {
		<-c.making
		return client, nil
	}
	// The request of a token ends only with life or after connectTimeout. It runs on
	// another goroutine, because ctx may end earlier. Close waits for that goroutine.
	var client *clientv3.Client
	made := make(chan error, 1)
	go func() {
		defer func() { <-c.making }()
		var err error
		client, err = c.make()
		made <- err
	}()
	select {
	case err := <-made:
		return client, err
	case <-ctx.Done():
		return nil, c.explain(fmt.Errorf("no connection yet: %w", ctx.Err()))
	}
}

// make makes the client. The caller must have filled making.
func (c *Connection) make() (*clientv3.Client, error) {
	if c.life.Err() != nil {
		return nil, errClosed
	}
	options := []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectBase, Multiplier: 2, Jitter: 0.2, MaxDelay: reconnectMax},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithNoProxy(), // HTTPS_PROXY is for hosts outside; etcd is part of the system
	}
	if c.config.hasFiles() {
		options = append(options, grpc.WithTransportCredentials(newFileCredentials(c.config.files())))
	}
	client, err := clientv3.New(clientv3.Config{
		Context:              c.life,
		Endpoints:            c.config.Endpoints,
		DialTimeout:          connectTimeout,
		DialKeepAliveTime:    pingEvery,
		DialKeepAliveTimeout: pingTimeout,
		MaxCallRecvMsgSize:   MaxAnswer,
		TLS:                  c.config.TLS,
		Username:             c.config.Username,
		Password:             c.config.Password,
		Logger:               zap.NewNop(), // the registry and the ledger log what matters
		DialOptions:          options,
	})
	if err != nil {
		return nil, c.explain(fmt.Errorf("connecting: %w", err))
	}
	c.client.Store(client)
	return client, nil
}

// Close closes the client, if there is one. The connection's life must have ended.
func (c *Connection) Close() {
	c.begun.Wait()
	c.making <- struct{}{} // wait for make, which ends with life
	defer func() { <-c.making }()
	if client := c.client.Swap(nil); client != nil {
		// The error is that the client's context has ended, which is true.
		_ = client.Close()
	}
}
