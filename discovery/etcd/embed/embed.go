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
	// Listen is the "host:port" for clients; "127.0.0.1:0", a free port of
	// this host alone, when empty.
	Listen string
	// ListenPeers is the "host:port" for other members; "127.0.0.1:0" when
	// empty. Members of a cluster need fixed ports.
	ListenPeers string
	// Name is the member's; "onecall" when empty.
	Name string
	// Members are all members of the cluster, this one included: each name
	// and its ListenPeers. Empty means this one alone.
	Members map[string]string
	// Dir is the folder of the server's data, which stays; when empty a
	// temporary one, which Close removes. With a temporary folder the server
	// does not wait for the disk, and hashes users' passwords at bcrypt's least
	// cost.
	Dir string
	// Logger gets the server's own log; nothing is logged when nil.
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

// Start starts a server and returns when it answers. It fails when a port is
// taken, the folder can't be used, or ctx ends first; nothing stays behind
// then.
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

// Close stops the server and frees its ports and its temporary folder. A
// second Close returns what the first returned.
func (s *Server) Close() error { return s.close() }

// folder returns the folder of the data and what removes it again.
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
	if c.Dir == "" { // what is soon gone need not be kept well
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
