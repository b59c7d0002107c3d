// Package embed runs a real etcd server in this process, for demos,
// development and tests. Only programs that import it have etcd's server in
// their build.
package embed

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"golang.org/x/crypto/bcrypt"
)

// Config says how the server runs. The zero value is a single member on a free
// port of this host with its data in a temporary folder.
type Config struct {
	// Listen is the "host:port" for clients; "127.0.0.1:0", a free port on loopback, when
	// empty.
	Listen string
	// ListenPeers is the "host:port" for other members; "127.0.0.1:0" when
	// empty. Members of a cluster need fixed ports.
	ListenPeers string
	// Name is the member's; "onecall" when empty.
	Name string
	// Members are all members of the cluster, this one included, as names and
	// their ListenPeers. Empty means only this one.
	Members map[string]string
	// Dir is the folder of the server's data. If it is empty, the server uses a temporary
	// folder, which Close removes. Then the server does not wait for the disk, and hashes
	// users' passwords with bcrypt's lowest cost.
	Dir string
	// Logger receives the server's log; nil logs nothing.
	Logger *zap.Logger
}

const (
	anyPort     = "127.0.0.1:0"
	defaultName = "onecall"
)

// Server is a running etcd server. Its methods are safe for all goroutines.
type Server struct {
	etcd  *embed.Etcd
	close func() error
}

// Start starts a server and returns when it is ready. It returns an error if a port is in
// use, the folder cannot be used, or ctx ends first. Then nothing is left running.
func Start(ctx context.Context, config Config) (*Server, error) {
	dir, removeDir, err := folder(config.Dir)
	if err != nil {
		return nil, err
	}
	etcdConfig, err := config.etcd(dir)
	if err != nil {
		return nil, errors.Join(err, removeDir())
	}
	etcd, err := embed.StartEtcd(etcdConfig)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("embed: starting etcd: %w", err), removeDir())
	}
	server := &Server{etcd: etcd}
	server.close = sync.OnceValue(func() error {
		etcd.Close()
		<-etcd.Server.StopNotify()
		return removeDir()
	})
	select {
	case <-etcd.Server.ReadyNotify():
		return server, nil
	case err = <-etcd.Err():
	case <-etcd.Server.StopNotify():
		err = errors.New("the server stopped")
	case <-ctx.Done():
		err = fmt.Errorf("the server is not ready: %w", ctx.Err())
	}
	return nil, errors.Join(fmt.Errorf("embed: starting etcd: %w", err), server.Close())
}

// Endpoints returns the URLs for clients.
func (s *Server) Endpoints() []string {
	endpoints := make([]string, len(s.etcd.Clients))
	for i, listener := range s.etcd.Clients {
		endpoints[i] = "http://" + listener.Addr().String()
	}
	return endpoints
}

// Close stops the server, frees its ports and removes its temporary folder. A second
// Close returns the same.
func (s *Server) Close() error { return s.close() }

// folder returns the folder of the data, and a function that removes a temporary one.
func folder(dir string) (path string, remove func() error, err error) {
	if dir != "" {
		return dir, func() error { return nil }, nil
	}
	dir, err = os.MkdirTemp("", "onecall-etcd-")
	if err != nil {
		return "", nil, fmt.Errorf("embed: %w", err)
	}
	return dir, func() error { return os.RemoveAll(dir) }, nil
}

// etcd returns the server's own configuration.
func (c Config) etcd(dir string) (*embed.Config, error) {
	clients, err := address("Listen", c.Listen)
	if err != nil {
		return nil, err
	}
	peers, err := address("ListenPeers", c.ListenPeers)
	if err != nil {
		return nil, err
	}
	out := embed.NewConfig()
	out.Name = c.Name
	if out.Name == "" {
		out.Name = defaultName
	}
	out.Dir = dir
	if c.Dir == "" { // the data is removed at the end, so it need not survive a crash
		out.UnsafeNoFsync = true
		out.BcryptCost = uint(bcrypt.MinCost)
	}
	out.ListenClientUrls, out.AdvertiseClientUrls = clients, clients
	out.ListenPeerUrls, out.AdvertisePeerUrls = peers, peers
	out.InitialCluster = out.InitialClusterFromName(out.Name)
	if len(c.Members) > 0 {
		out.InitialCluster = ""
		for name, peer := range c.Members {
			out.InitialCluster += "," + name + "=http://" + peer
		}
		out.InitialCluster = out.InitialCluster[1:]
	}
	logger := c.Logger
	if logger == nil {
		logger = zap.NewNop()
	}
	out.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	return out, nil
}

func address(field, hostPort string) ([]url.URL, error) {
	if hostPort == "" {
		hostPort = anyPort
	}
	parsed, err := url.Parse("http://" + hostPort)
	if err != nil || parsed.Host != hostPort || parsed.Port() == "" {
		return nil, fmt.Errorf("embed: Config.%s: %q is not host:port, such as 127.0.0.1:2379", field, hostPort)
	}
	return []url.URL{*parsed}, nil
}
