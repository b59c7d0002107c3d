package etcd

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// auditor checks whether etcd still has the keys of the lease. Only the registrar's
// goroutine uses it.
type auditor struct {
	conn *etcdclient.Connection
	ttl  time.Duration
	log  *slog.Logger
	// warn logs a line, at most so many times a minute.
	warn func(text string, most int, attrs ...any)

	// deleted reports the deletion of one key of the lease, as it happens when the
	// lease is revoked; nil while no key is watched.
	deleted clientv3.WatchChan
	unwatch context.CancelFunc
	watchAt time.Time // when to start a watch again after one has ended
}

// check compares the keys of the lease with etcd, if that is due. It forgets a key that
// another program has changed, so that the next step puts it again.
func (a *auditor) check(ctx context.Context, l *lease) error {
	if time.Now().Before(l.checkAt) {
		return nil
	}
	client, err := a.conn.Ready(ctx)
	if err != nil {
		return err
	}
	for keys := range slices.Chunk(slices.Collect(maps.Keys(l.keys)), keysPerTxn) {
		gets := make([]clientv3.Op, len(keys))
		for i, key := range keys {
			gets[i] = clientv3.OpGet(key)
		}
		reply, err := client.Txn(ctx).Then(gets...).Commit()
		if err != nil {
			return fmt.Errorf("checking what is registered: %w", err)
		}
		for i, key := range keys {
			a.compare(l, key, reply.Responses[i].GetResponseRange().GetKvs())
		}
	}
	if err := sweep(ctx, client, l); err != nil {
		return fmt.Errorf("checking what is registered: %w", err)
	}
	l.checkAt = jitter(a.ttl/2, a.ttl)
	return nil
}

// compare forgets a key that etcd does not have, or that has another value there.
func (a *auditor) compare(l *lease, key string, found []*mvccpb.KeyValue) {
	ours := len(found) == 1 && found[0].GetLease() == int64(l.id)
	if ours && bytes.Equal(found[0].GetValue(), []byte(l.keys[key].value)) {
		return
	}
	a.warn("a registration was deleted or changed in etcd by another program; putting it again", 1, "key", key)
	if ours {
		l.keys[key] = keyState{confirmed: l.keys[key].confirmed}
	} else {
		delete(l.keys, key)
	}
	l.renewAt = time.Now() // the next step follows at once
}

// sweep looks for keys under the lease that should not be there, in the first checks
// after a key was removed. The next step removes them.
func sweep(ctx context.Context, client *clientv3.Client, l *lease) error {
	if l.sweeps == 0 {
		return nil
	}
	l.sweeps--
	under, err := client.TimeToLive(ctx, l.id, clientv3.WithAttachedKeys())
	if err != nil {
		return err
	}
	for _, key := range under.Keys {
		if _, known := l.keys[string(key)]; !known {
			l.keys[string(key)] = keyState{}
			l.renewAt = time.Now() // the next step follows at once
		}
	}
	return nil
}

// watchKey watches one key of the lease, if none is watched. If the lease is revoked, etcd
// deletes all its keys, so one is enough. If the watch fails, check finds out later.
func (a *auditor) watchKey(ctx, life context.Context, l *lease) {
	if a.deleted != nil || len(l.keys) == 0 || time.Now().Before(a.watchAt) {
		return
	}
	client, err := a.conn.Ready(ctx)
	if err != nil {
		return
	}
	watchCtx, end := context.WithCancel(life)
	stop := context.AfterFunc(ctx, end)
	defer stop()
	key := slices.Min(slices.Collect(maps.Keys(l.keys)))
	a.deleted, a.unwatch = client.Watch(watchCtx, key, clientv3.WithFilterPut()), end
	a.log.Debug("watching a key of the lease", "key", key, "lease", l.String())
}

// recheck makes the lease and its keys due for a check now, because the watched key was
// deleted. If only the watch has ended, another one starts later.
func (a *auditor) recheck(l *lease, deleted bool) {
	a.stop() // also after a deletion, since this process may have removed the key itself
	switch {
	case !deleted:
		a.watchAt = time.Now().Add(a.ttl / 3)
	case l != nil:
		l.renewAt, l.checkAt = time.Now(), time.Now()
	}
}

// stop ends the watch.
func (a *auditor) stop() {
	if a.unwatch != nil {
		a.unwatch()
	}
	a.deleted, a.unwatch = nil, nil
}

// jitter returns a random time that is between low and high from now.
func jitter(low, high time.Duration) time.Time {
	return time.Now().Add(low + rand.N(high-low))
}
