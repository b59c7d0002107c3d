package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// lease is a lease that etcd granted, with the state of the keys under it. Only the
// registrar's goroutine uses it.
type lease struct {
	id clientv3.LeaseID
	// expires is when the lease ends unless it is renewed. etcd ends it no earlier.
	expires time.Time
	// renewAt and checkAt are when to keep the lease alive, and when to compare keys
	// with etcd.
	renewAt, checkAt time.Time
	// keys are those that may be in etcd under the lease.
	keys map[string]keyState
	// sweeps is how many checks still look for keys that should not be there.
	sweeps int
}

// keyState is the state of a key in etcd, as far as it is known.
type keyState struct {
	value string // "" while it is unknown
	// confirmed says that etcd has the key under the lease, with this value or an
	// earlier one.
	confirmed bool
}

// String returns the lease's id as etcdctl writes it.
func (l *lease) String() string { return fmt.Sprintf("%x", int64(l.id)) }

// due returns when the lease has to be renewed or its keys checked.
func (l *lease) due() time.Time {
	if l.checkAt.Before(l.renewAt) {
		return l.checkAt
	}
	return l.renewAt
}

// renewed sets the times of a lease that etcd has granted or kept alive. asked is when
// the request was sent.
func (l *lease) renewed(asked time.Time, ttl time.Duration) {
	l.expires = asked.Add(ttl)
	l.renewAt = asked.Add(ttl / 3)
}

// leaseKeeper has etcd grant a lease, keeps it alive and revokes it. Only the
// registrar's goroutine uses it.
type leaseKeeper struct {
	conn *etcdclient.Connection
	ttl  time.Duration
	// warn logs a line, at most so many times a minute.
	warn func(text string, most int, attrs ...any)

	lease *lease // nil: there is none
	// stream keeps leases alive; nil while there is none.
	stream     grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]
	stopStream context.CancelFunc
}

// ensure makes sure that there is a live lease. It renews the lease if that is due,
// and has another granted if there is none or it has ended.
func (k *leaseKeeper) ensure(ctx, life context.Context) error {
	if k.lease != nil {
		if time.Now().Before(k.lease.renewAt) {
			return nil
		}
		asked := time.Now()
		alive, err := k.renew(ctx, life)
		switch {
		case errors.Is(err, rpctypes.ErrPermissionDenied):
			// etcd renews no lease with a key that this process may not put any more.
			// The other keys move to another lease.
			k.warn("etcd does not let the lease be kept alive; asking for another", linesAMinute, "error", err)
		case err != nil:
			return fmt.Errorf("keeping the lease alive: %w", err)
		case alive:
			k.lease.renewed(asked, k.ttl)
			return nil
		default:
			k.warn("the lease has ended in etcd; asking for another", linesAMinute)
		}
		k.drop()
	}
	client, err := k.conn.Ready(ctx)
	if err != nil {
		return err
	}
	asked := time.Now()
	granted, err := client.Grant(ctx, int64(k.ttl/time.Second))
	if err != nil {
		return fmt.Errorf("asking for a lease: %w", err)
	}
	k.lease = &lease{id: granted.ID, keys: make(map[string]keyState), checkAt: jitter(k.ttl/2, k.ttl)}
	k.lease.renewed(asked, k.ttl)
	return nil
}

// renew keeps the lease alive. alive is false if the lease has ended. All renewals
// use one stream as long as that works: each new stream would cost an
// authentication, and a member that shuts down still serves the streams that it has.
func (k *leaseKeeper) renew(ctx, life context.Context) (alive bool, err error) {
	defer func() {
		if err != nil {
			k.stop()
			err = rpctypes.Error(err)
		}
	}()
	if err := k.open(ctx, life); err != nil {
		return false, err
	}
	stop := context.AfterFunc(ctx, k.stopStream)
	defer stop()
	if err := k.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(k.lease.id)}); err != nil {
		// Send says only that the stream has ended; Recv says why.
		_, err = k.stream.Recv()
		return false, err
	}
	reply, err := k.stream.Recv()
	if err != nil {
		return false, err
	}
	return reply.GetTTL() > 0, nil
}

// open opens the stream, if there is none.
func (k *leaseKeeper) open(ctx, life context.Context) error {
	if k.stream != nil {
		return nil
	}
	client, err := k.conn.Ready(ctx)
	if err != nil {
		return err
	}
	streamCtx, end := context.WithCancel(life)
	stop := context.AfterFunc(ctx, end)
	defer stop()
	stream, err := pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(streamCtx)
	if err != nil {
		end()
		return err
	}
	k.stream, k.stopStream = stream, end
	return nil
}

// stop ends the stream.
func (k *leaseKeeper) stop() {
	if k.stopStream != nil {
		k.stopStream()
	}
	k.stream, k.stopStream = nil, nil
}

// drop forgets a lease that has ended, with its keys.
func (k *leaseKeeper) drop() {
	k.stop()
	k.lease = nil
}

// dropIfEnded drops the lease if err says that it has ended in etcd.
func (k *leaseKeeper) dropIfEnded(err error) {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		k.drop()
	}
}

// revoke revokes the lease, and with it every key under it. revoked is false if
// there was none.
func (k *leaseKeeper) revoke(ctx context.Context) (revoked bool, err error) {
	if k.lease == nil {
		return false, nil
	}
	k.stop()
	client, err := k.conn.Ready(ctx)
	if err != nil {
		return false, err
	}
	k.lease.renewAt = time.Now() // without an answer it is unknown whether the lease has ended
	if _, err := client.Revoke(ctx, k.lease.id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return false, fmt.Errorf("giving the lease back: %w", err)
	}
	k.drop()
	return true, nil
}
