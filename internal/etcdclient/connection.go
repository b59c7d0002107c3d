package etcdclient

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

// MaxAnswer is the most bytes that an answer of etcd's may have: it is what a member
// sends at most for one request of this module, unless other programs have filled
// etcd.
const MaxAnswer = 32 << 20

var errClosed = errors.New("the connection to etcd is closed")

// Connection is one client of etcd, made at its first use because etcd's client
// asks for a token, if it needs one, while it is constructed. Its methods are
// safe for all goroutines.
type Connection struct {
	config Config
	// life ends with the connection's owner.
	life context.Context //nolint:containedctx // a connection is a running thing
	// making is held by the goroutine that makes the client.
	making chan struct{}
	client atomic.Pointer[clientv3.Client]
}

// New returns a connection that lasts until life ends; its owner then calls
// Close. config comes from [Config.WithDefaults]. New does no I/O.
func New(life context.Context, config Config) *Connection {
	return &Connection{config: config, life: life, making: make(chan struct{}, 1)}
}

// Life returns the context that the connection was made with.
func (c *Connection) Life() context.Context { return c.life }

// Ready returns the client once it has a connection to a member; when there is
// none, it says why within ctx. etcd's client on its own would wait in
// silence.
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

// whyNot returns the reason why a connection is broken: that of a call which
// does not wait for it.
func (c *Connection) whyNot(ctx context.Context, conn *grpc.ClientConn) error {
	_, err := pb.NewMaintenanceClient(conn).Status(ctx, &pb.StatusRequest{}, grpc.WaitForReady(false))
	if err == nil {
		return errors.New("the connection has just come back")
	}
	return c.explain(err)
}

// explain adds to why there is no connection what to look at, unless its owner has
// ended it.
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
	// Asking for a token heeds life and connectTimeout alone, so it must not
	// hold up a caller that has less time. Close waits for this goroutine.
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

// make makes the client; its goroutine holds making.
func (c *Connection) make() (*clientv3.Client, error) {
	if c.life.Err() != nil {
		return nil, errClosed
	}
	options := []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: reconnectBase, Multiplier: 2, Jitter: 0.2, MaxDelay: reconnectMax},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithNoProxy(), // HTTPS_PROXY is for what lies outside; etcd is a part of the system
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
		Logger:               zap.NewNop(), // the packages that use it log what matters
		DialOptions:          options,
	})
	if err != nil {
		return nil, c.explain(fmt.Errorf("connecting: %w", err))
	}
	c.client.Store(client)
	return client, nil
}

// Close ends the client, if there is one. The connection's life has ended.
func (c *Connection) Close() {
	c.making <- struct{}{} // waits for a client that is being made: it ends with life, too
	defer func() { <-c.making }()
	if client := c.client.Swap(nil); client != nil {
		// Close reports that the client's context has ended, which is why we
		// are here.
		_ = client.Close()
	}
}
