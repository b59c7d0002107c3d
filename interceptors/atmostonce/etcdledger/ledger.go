// Package etcdledger is the ledger of calls on etcd, for instances behind a
// balancer that picks the instance itself.
//
// Each call is a key that one transaction creates unless it is there. Keys end
// with leases that are not kept alive. The promise of
// [github.com/onecall-dev/onecall/interceptors/atmostonce.Ledger] holds as
// long as etcd keeps what it confirmed. Deleting keys, revoking leases or
// restoring a backup makes it forget. Each call waits for etcd, and none
// runs while etcd is away.
package etcdledger

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// keyPart is between the namespace and a key.
const keyPart = "/ledger/"

// leaseAttempts is how many leases one Begin tries: more than one is needed
// only after another program revoked one.
const leaseAttempts = 3

// Ledger is an [atmostonce.Ledger] on etcd. Its methods are safe for all
// goroutines.
type Ledger struct {
	config Config
	conn   *etcdclient.Connection
	end    context.CancelFunc
	leases *leases
	// failing reports whether the last Begin that asked etcd was in vain.
	failing atomic.Bool
}

var _ atmostonce.Ledger = (*Ledger)(nil)

// Open returns the ledger that config describes, or a *[ConfigError]. It does
// no I/O but to read certificate files: etcd need not be there yet.
func Open(config Config) (*Ledger, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	config.client().WarnOfPassword(config.Logger)
	life, end := context.WithCancel(context.Background())
	return &Ledger{
		config: config,
		conn:   etcdclient.New(life, config.client()),
		end:    end,
		leases: newLeases(config.Retention, config.Timeout),
	}, nil
}

// Close ends the connection to etcd; a Begin under way, and any later one, is
// an error. What was taken stays taken: keys end by their leases. A second
// Close does nothing. The error is always nil.
func (l *Ledger) Close() error {
	l.end()
	l.conn.Close()
	return nil
}

// Begin implements [atmostonce.Ledger]. It takes Config.Timeout at most.
func (l *Ledger) Begin(ctx context.Context, key string) (fresh bool, err error) {
	if err := atmostonce.CheckLedgerKey(key); err != nil {
		return false, fmt.Errorf("etcdledger: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("etcdledger: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, l.config.Timeout)
	defer cancel()
	fresh, err = l.begin(bounded, l.config.Namespace+keyPart+key)
	if err != nil {
		err = fmt.Errorf("etcdledger: not known whether the call began before: %s: %w", l.config.client().Describe(), err)
	}
	if ctx.Err() == nil { // else it says nothing of etcd
		l.report(err)
	}
	return fresh, err
}

// begin takes a key, under another lease if etcd does not know the one there
// is: then, and only then, it is certain that nothing was put.
func (l *Ledger) begin(ctx context.Context, key string) (fresh bool, err error) {
	client, err := l.conn.Ready(ctx)
	if err != nil {
		return false, err
	}
	for range leaseAttempts {
		lease, err := l.leases.get(ctx, client)
		if err != nil {
			return false, err
		}
		fresh, err = take(ctx, client, key, lease.id)
		switch {
		case err == nil && fresh:
			err = l.leases.check(lease)
			return err == nil, err
		case err == nil:
			return false, nil
		case !errors.Is(err, rpctypes.ErrLeaseNotFound):
			return false, fmt.Errorf("taking the key: %w", err)
		}
		l.leases.lost(lease)
	}
	return false, fmt.Errorf("taking the key: %d leases in a row ended too early: is somebody revoking them?", leaseAttempts)
}

// take puts a key unless it is there. Etcd's client sends a transaction again
// when it gets certain errors, though the first may have been applied. The value is
// new for each take, and so distinguishes its own key from that of a copy.
func take(ctx context.Context, client *clientv3.Client, key string, lease clientv3.LeaseID) (taken bool, err error) {
	mine := rand.Text()
	reply, err := client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, mine, clientv3.WithLease(lease))).
		Else(clientv3.OpGet(key)).
		Commit()
	if err != nil {
		return false, err
	}
	if reply.Succeeded {
		return true, nil
	}
	found := reply.Responses[0].GetResponseRange().GetKvs()
	return len(found) == 1 && string(found[0].GetValue()) == mine, nil
}

// report logs each change between good and bad.
func (l *Ledger) report(err error) {
	failing := err != nil
	if l.failing.Load() == failing || l.failing.Swap(failing) == failing || l.conn.Life().Err() != nil {
		return
	}
	if failing {
		l.config.Logger.Warn("the ledger cannot be asked; calls are refused until it can", "error", err)
	} else {
		l.config.Logger.Info("the ledger can be asked again")
	}
}
