package etcd

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/internal/backoff"
)

// repairEvery is how often each API is compared with etcd, on average, because a member
// that lags may withhold events.
const repairEvery = time.Minute

// untilRepair returns a random time until the next comparison.
func (r *watcher) untilRepair() time.Duration {
	return r.repair*3/4 + backoff.Policy{Base: r.repair / 2, Max: r.repair / 2}.Delay(1)
}

// comparedAtOnce bounds how many APIs one request compares; etcd allows 128.
const comparedAtOnce = 64

// compare asks etcd how many keys each API has, and which of them have changed since
// the known revision. An API with other keys than the known ones is listed again.
func (r *watcher) compare(life context.Context, all []*watch) {
	for len(all) > 0 {
		some := all[:min(len(all), comparedAtOnce)]
		all = all[len(some):]
		if err := r.compareSome(life, some); err != nil {
			for _, w := range some {
				r.unwatch(w)
				w.due = time.Now()
			}
		}
	}
}

func (r *watcher) compareSome(life context.Context, some []*watch) error {
	ctx, cancel := context.WithTimeout(life, listLongest)
	defer cancel()
	client, err := r.conn.Ready(ctx)
	if err != nil {
		return err
	}
	gets := make([]clientv3.Op, len(some))
	for i, w := range some {
		gets[i] = clientv3.OpGet(r.keys.instances(w.api), clientv3.WithPrefix(), clientv3.WithKeysOnly(), clientv3.WithMinModRev(w.revision+1))
	}
	reply, err := client.Txn(ctx).Then(gets...).Commit()
	if err != nil {
		return fmt.Errorf("comparing: %w", err)
	}
	r.setHealthy()
	for i, w := range some {
		found := reply.Responses[i].GetResponseRange()
		w.due = time.Now().Add(r.untilRepair())
		// An API that is not known is listed for the names of others, which may be
		// nearer now. A revision that went back is that of a store from a backup.
		if !w.known || len(found.GetKvs()) > 0 || found.GetCount() != int64(w.entries.Len()) || reply.Header.GetRevision() < w.revision {
			r.unwatch(w)
			w.due = time.Now()
		}
	}
	return nil
}
