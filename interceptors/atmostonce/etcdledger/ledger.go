// Package etcdledger is the ledger of calls on etcd, for instances behind a
// balancer that picks the instance itself.
//
// One transaction creates the key of each call, unless it exists. Keys end with
// their leases, which are not kept alive. The promise of
// [github.com/onecall-dev/onecall/interceptors/atmostonce.Ledger] holds as long as
// etcd keeps what it confirmed. Whoever deletes keys, revokes leases or restores a
// backup makes it forget calls. Each call waits for etcd, and no call runs while etcd
// is unavailable.
package etcdledger

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// keyPart is between the namespace and a key.
const keyPart = "/ledger/"

// leaseAttempts is how many leases one Begin tries. It needs more than one only after
// another program has revoked one.
const leaseAttempts = 3

// Ledger is an [atmostonce.SettlingLedger] on etcd. Its methods are safe for all
// goroutines.
type Ledger struct {
	config Config
	conn   *etcdclient.Connection
	end    context.CancelFunc
	leases *leases
	// failing is whether the last Begin failed.
	failing atomic.Bool
}

var _ atmostonce.SettlingLedger = (*Ledger)(nil)

// Open returns a ledger, or a *[ConfigError]. It only reads certificate files; etcd
// need not run yet.
func Open(config Config) (*Ledger, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithCancel(context.Background())
	return &Ledger{
		config: config,
		conn:   etcdclient.New(ctx, config.client()),
		end:    end,
		leases: newLeases(config.Retention, config.Timeout),
	}, nil
}

// Close closes the connection to etcd. A running Begin returns an error, and so does
// each later one. Keys that were taken stay until their leases end. A second Close
// does nothing. The error is always nil.
func (l *Ledger) Close() error {
	l.end()
	l.conn.Close()
	return nil
}

// Begin implements [atmostonce.Ledger]. It takes Config.Timeout at most.
func (l *Ledger) Begin(ctx context.Context, key string) (fresh bool, err error) {
	return l.Take(ctx, key, atmostonce.LedgerEntry{})
}

// Take implements [atmostonce.SettlingLedger]. It takes Config.Timeout at most.
func (l *Ledger) Take(ctx context.Context, key string, entry atmostonce.LedgerEntry) (fresh bool, err error) {
	err = l.do(ctx, key, entry, "find out whether the call began before", func(ctx context.Context, client *clientv3.Client, key string) error {
		fresh, err = l.begin(ctx, client, key, entry)
		return err
	})
	return fresh, err
}

// Done implements [atmostonce.SettlingLedger]. It takes Config.Timeout at most.
func (l *Ledger) Done(ctx context.Context, key string, entry atmostonce.LedgerEntry) error {
	return l.do(ctx, key, entry, "record what became of the call", func(ctx context.Context, client *clientv3.Client, key string) error {
		_, err := client.Put(ctx, key, value(entry), clientv3.WithIgnoreLease())
		if errors.Is(err, rpctypes.ErrKeyNotFound) { // its lease has ended
			return nil
		}
		return err
	})
}

// Find implements [atmostonce.SettlingLedger]. It takes Config.Timeout at most.
func (l *Ledger) Find(ctx context.Context, key string) (entry atmostonce.LedgerEntry, known bool, err error) {
	err = l.do(ctx, key, atmostonce.LedgerEntry{}, "find out what became of the call", func(ctx context.Context, client *clientv3.Client, key string) error {
		reply, err := client.Get(ctx, key)
		if err == nil && len(reply.Kvs) == 1 {
			entry, known = entryOf(string(reply.Kvs[0].GetValue())), true
		}
		return err
	})
	return entry, known, err
}

// Retention implements [atmostonce.SettlingLedger].
func (l *Ledger) Retention() time.Duration { return l.config.Retention }

// do checks what a method was given and calls f with the client of etcd and the key in
// etcd. cannot is for the error, what f cannot do.
func (l *Ledger) do(ctx context.Context, key string, entry atmostonce.LedgerEntry, cannot string, f func(ctx context.Context, client *clientv3.Client, key string) error) error {
	if err := cmp.Or(atmostonce.CheckLedgerKey(key), entry.Check(), ctx.Err()); err != nil {
		return fmt.Errorf("etcdledger: %w", err)
	}
	bounded, cancel := context.WithTimeout(ctx, l.config.Timeout)
	defer cancel()
	client, err := l.conn.Ready(bounded)
	if err == nil {
		err = f(bounded, client, l.config.Namespace+keyPart+key)
	}
	if err != nil {
		err = fmt.Errorf("etcdledger: cannot %s: %s: %w", cannot, l.config.client().Describe(), err)
	}
	if ctx.Err() == nil { // otherwise the error says nothing about etcd
		l.report(err)
	}
	return err
}

// begin takes a key. It uses another lease if etcd does not know the current one: only
// then it is certain that the key was not put.
func (l *Ledger) begin(ctx context.Context, client *clientv3.Client, key string, entry atmostonce.LedgerEntry) (fresh bool, err error) {
	for range leaseAttempts {
		lease, err := l.leases.get(ctx, client)
		if err != nil {
			return false, err
		}
		fresh, err = take(ctx, client, key, entry, lease.id)
		switch {
		case err == nil && fresh:
			err = l.leases.check(lease)
			return err == nil, err
		case err == nil:
			return false, nil
		case !errors.Is(err, rpctypes.ErrLeaseNotFound):
			return false, fmt.Errorf("cannot take the key: %w", err)
		}
		l.leases.lost(lease)
	}
	return false, fmt.Errorf("cannot take the key: %d leases in a row ended too early: another program may revoke them", leaseAttempts)
}

// take puts a key unless it exists, and reports whether it did. After certain errors
// etcd's client retries a transaction that may have been applied. The value, which is
// new for each take, shows whether the key that exists is its own or that of a copy.
func take(ctx context.Context, client *clientv3.Client, key string, entry atmostonce.LedgerEntry, lease clientv3.LeaseID) (taken bool, err error) {
	mine := value(entry)
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

// The words for outcomes in a value.
var outcomeWords = map[atmostonce.Outcome]string{atmostonce.Unknown: "began", atmostonce.Refused: "refused", atmostonce.Executed: "executed"}

// value returns a new value for an entry: a random text, and, if it has an owner, the
// owner, the outcome and the code.
func value(entry atmostonce.LedgerEntry) string {
	random := rand.Text()
	if entry.Owner == "" {
		return random
	}
	return fmt.Sprintf("%s %s %s %d", random, entry.Owner, outcomeWords[entry.Outcome], entry.Code)
}

// entryOf returns the entry of a value. It is zero for a value without an owner, and
// for one of a later version.
func entryOf(value string) atmostonce.LedgerEntry {
	var random, owner, word string
	var code codes.Code
	if n, err := fmt.Sscanf(value, "%s %s %s %d", &random, &owner, &word, &code); err != nil || n != 4 {
		return atmostonce.LedgerEntry{}
	}
	for outcome, known := range outcomeWords {
		if word == known {
			return atmostonce.LedgerEntry{Owner: owner, Outcome: outcome, Code: code}
		}
	}
	return atmostonce.LedgerEntry{}
}

// report logs when etcd begins to fail and when it works again.
func (l *Ledger) report(err error) {
	failing := err != nil
	if l.failing.Load() == failing || l.failing.Swap(failing) == failing || l.conn.Life().Err() != nil {
		return
	}
	if failing {
		l.config.Logger.Warn("the ledger is unavailable; calls are refused until it is available again", "error", err)
	} else {
		l.config.Logger.Info("the ledger is available again")
	}
}
