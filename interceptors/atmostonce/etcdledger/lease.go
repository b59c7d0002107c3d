package etcdledger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// keysPerLease bounds the keys under one lease, because etcd deletes them all
// in one step when the lease ends.
const keysPerLease = 10_000

// lease is one that keys are put under. It is never kept alive nor given back:
// it ends, with its keys, when the last of them was remembered long enough.
type lease struct {
	id clientv3.LeaseID
	// asked is when the lease was asked for, so that it ends no earlier than
	// asked and its time to live; wall is the same by the wall clock alone.
	asked, wall time.Time
	// keys counts those that were put under it, or may have been.
	keys atomic.Int64
}

// age returns how old the lease may be. If the machine slept, the monotonic clock was
// stopped; if its time was set, the wall clock jumped. The longer of the two times counts,
// so that an error of either clock only ends a lease early.
func (l *lease) age() time.Duration {
	return max(time.Since(l.asked), time.Now().Round(0).Sub(l.wall))
}

// leases returns the lease to put a key under. A key stays for the retention at
// least when it is put within share + slack of the asking for its lease.
type leases struct {
	// ttl is that of each lease.
	ttl time.Duration
	// share is how long a lease takes new keys.
	share time.Duration
	// slack is how long the putting of a key may take from then on.
	slack time.Duration

	current atomic.Pointer[lease]
	// granting is held by the goroutine that asks for a lease.
	granting chan struct{}
}

func newLeases(retention, timeout time.Duration) *leases {
	l := &leases{share: retention / 10, slack: timeout, granting: make(chan struct{}, 1)}
	// A second more, because etcd counts in seconds.
	l.ttl = (retention + l.share + l.slack).Truncate(time.Second) + 2*time.Second
	return l
}

// get returns a lease that takes keys and counts one for it.
func (l *leases) get(ctx context.Context, client *clientv3.Client) (*lease, error) {
	if current := l.usable(); current != nil {
		return current, nil
	}
	select {
	case l.granting <- struct{}{}:
		defer func() { <-l.granting }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if current := l.usable(); current != nil {
		return current, nil
	}
	now := time.Now()
	next := &lease{asked: now, wall: now.Round(0)}
	granted, err := client.Grant(ctx, int64(l.ttl/time.Second))
	if err != nil {
		return nil, fmt.Errorf("asking for a lease: %w", err)
	}
	if granted.ID == clientv3.NoLease || granted.TTL < int64(l.ttl/time.Second) {
		return nil, fmt.Errorf("asking for a lease of %v: got one of %d s", l.ttl, granted.TTL)
	}
	next.id = granted.ID
	next.keys.Add(1)
	l.current.Store(next)
	return next, nil
}

// usable returns the current lease when it takes one more key.
func (l *leases) usable() *lease {
	current := l.current.Load()
	if current == nil || current.age() >= l.share || current.keys.Add(1) > keysPerLease {
		return nil
	}
	return current
}

var errTooLate = errors.New("it took so long that it may be forgotten too early")

// check reports whether a key that has just been put under a lease stays for the
// retention.
func (l *leases) check(used *lease) error {
	if used.age() > l.share+l.slack {
		return errTooLate
	}
	return nil
}

// lost drops a lease that etcd does not know any more.
func (l *leases) lost(lost *lease) { l.current.CompareAndSwap(lost, nil) }
