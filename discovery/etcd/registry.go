// Package etcd is the registry on etcd.
//
// Each instance has a key under its API's prefix for as long as its process keeps a
// lease alive. Each API that has observers is watched once, however many they are.
package etcd

import (
	"context"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// Registry is a [discovery.Registry] on etcd. Its methods are safe for all
// goroutines.
type Registry struct {
	config Config
	keys   keyspace
	conn   *etcdclient.Connection
	end    context.CancelFunc

	registrar *registrar
	watcher   *watcher
}

var _ discovery.Registry = (*Registry)(nil)

// Open returns the registry that config describes, or a *[ConfigError]. It reads the
// certificate files, and does not wait for etcd, which need not run yet. It begins to
// connect, so that the first registration or watch takes less time.
func Open(config Config) (*Registry, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	life, end := context.WithCancel(context.Background())
	r := &Registry{
		config: config,
		keys:   keyspace(config.Namespace),
		conn:   etcdclient.New(life, config.client()),
		end:    end,
	}
	r.registrar = newRegistrar(r.conn, r.keys, config)
	r.watcher = newWatcher(r.conn, r.keys, config)
	r.conn.Begin()
	return r, nil
}

// Close ends all watches and registrations and the connection to etcd. Close the
// registrations first: the instances of the others stay in etcd until their lease ends. A
// second Close does nothing. The error is always nil.
func (r *Registry) Close() error {
	r.end()
	r.registrar.wait()
	r.watcher.close()
	r.conn.Close()
	return nil
}

// describe names the etcd, in errors.
func (r *Registry) describe() string { return r.config.client().Describe() }
