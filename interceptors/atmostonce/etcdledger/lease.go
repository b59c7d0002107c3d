package etcdledger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// keysPerLease is how many keys a lease has at most. etcd deletes them all in one step
// when the lease ends.
const keysPerLease = 10_000

// lease is a lease of keys. It is not kept alive and not revoked. It ends, with its
// keys, after the last of them was kept for the retention.
type lease struct {
	id clientv3.LeaseID
	// requested is when the lease was requested, so that it ends no earlier than its
	// time to live after that; wall is the same by the wall clock alone.
	requested, wall time.Time
	// keys counts the keys that have the lease, or may have it.
	keys atomic.Int64
}

// age returns how old the lease may be. If the machine slept, the monotonic clock was
// stopped; if its time was set, the wall clock jumped. The longer of the two times counts,
// so that an error of either clock only ends a lease early.
func (l *lease) age() time.Duration {
	return max(time.Since(l.requested), time.Now().Round(0).Sub(l.wall))
}

// leases provides the lease of each key. A key is kept for the retention at least if
// it is put within share + slack after its lease was requested.
type leases struct {
	// ttl is the time to live of each lease.
	ttl time.Duration
	// share is for how long a lease gets new keys.
	share time.Duration
	// slack is how long it may take to put a key after that.
	slack time.Duration

	current atomic.Pointer[lease]
	// granting is full while a goroutine requests a lease.
	granting chan struct{}
}

func newLeases(retention, timeout time.Duration) *leases {
	l := &leases{share: retention / 10, slack: timeout, granting: make(chan struct{}, 1)}
	// Two seconds more than truncated, because etcd counts in seconds.
	l.ttl = (retention + l.share + l.slack).Truncate(time.Second) + 2*time.Second
	return l
}

// get returns a lease for one more key.
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
	next := &lease{requested: now, wall: now.Round(0)}
	granted, err := client.Grant(ctx, int64(l.ttl/time.Second))
	if err != nil {
		return nil, fmt.Errorf("cannot get a lease: %w", err)
	}
	if granted.ID == clientv3.NoLease || granted.TTL < int64(l.ttl/time.Second) {
		return nil, fmt.Errorf("cannot get a lease of %v: etcd granted one of %d s", l.ttl, granted.TTL)
	}
	next.id = granted.ID
	next.keys.Add(1)
	l.current.Store(next)
	return next, nil
}

// usable returns the current lease if it can have one more key, else nil.
func (l *leases) usable() *lease {
	current := l.current.Load()
	if current == nil || current.age() >= l.share || current.keys.Add(1) > keysPerLease {
		return nil
	}
	return current
}

var errTooLate = errors.New("it took so long that the key may be deleted too early")

// check returns an error if a key that was just put may not be kept for the retention.
func (l *leases) check(used *lease) error {
	if used.age() > l.share+l.slack {
		return errTooLate
	}
	return nil
}

// lost drops a lease that etcd no longer knows.
func (l *leases) lost(lost *lease) { l.current.CompareAndSwap(lost, nil) }
