package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// keysPerTxn bounds the operations of one transaction; etcd allows 128.
const keysPerTxn = 64

// lease is the registrar's one lease and the keys under it. Only the
// registrar's goroutine uses it.
type lease struct {
	ttl time.Duration

	id clientv3.LeaseID // 0: none
	// held are the keys that were put under id, and their values.
	held map[string]string
	// renewAt and checkAt are when keep-alive and the comparison of held with
	// what stands in etcd are due.
	renewAt, checkAt time.Time

	stream     grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]
	stopStream context.CancelFunc
}

// String gives the lease's id as etcdctl writes it.
func (l *lease) String() string { return fmt.Sprintf("%x", int64(l.id)) }

// due is when keep or check have something to do again.
func (l *lease) due() time.Time {
	if l.checkAt.Before(l.renewAt) {
		return l.checkAt
	}
	return l.renewAt
}

// keep makes sure of a live lease: it renews the one there is when that is
// due, and is granted another when there is none or it has ended.
func (l *lease) keep(ctx, life context.Context, conn *etcdclient.Connection) error {
	if l.id != 0 && time.Now().Before(l.renewAt) {
		return nil
	}
	client, err := conn.Ready(ctx)
	if err != nil {
		return err
	}
	if l.id != 0 {
		alive, err := l.renew(ctx, life, client)
		if err != nil {
			return doing("keeping the lease alive", err)
		}
		if alive {
			l.renewAt = time.Now().Add(l.ttl / 3)
			return nil
		}
		l.forget()
	}
	granted, err := client.Grant(ctx, int64(l.ttl/time.Second))
	if err != nil {
		return doing("asking for a lease", err)
	}
	l.id = granted.ID
	l.held = make(map[string]string)
	l.renewAt = time.Now().Add(l.ttl / 3)
	l.checkAt = between(l.ttl/2, l.ttl)
	return nil
}

// renew asks etcd to keep the lease alive, over one stream as long as that
// works: each new one would cost an authentication. alive is false when the
// lease has ended.
func (l *lease) renew(ctx, life context.Context, client *clientv3.Client) (alive bool, err error) {
	defer func() {
		if err != nil {
			l.stop()
		}
	}()
	if l.stream == nil {
		streamCtx, cancel := context.WithCancel(life)
		l.stopStream = cancel
		stop := context.AfterFunc(ctx, cancel)
		defer stop()
		if l.stream, err = pb.NewLeaseClient(client.ActiveConnection()).LeaseKeepAlive(streamCtx); err != nil {
			return false, err
		}
	}
	stop := context.AfterFunc(ctx, l.stopStream)
	defer stop()
	if err := l.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(l.id)}); err != nil {
		// Send says only that the stream has ended; Recv says why.
		_, err = l.stream.Recv()
		return false, err
	}
	reply, err := l.stream.Recv()
	if err != nil {
		return false, err
	}
	return reply.GetTTL() > 0, nil
}

// stop ends the stream of keep-alives.
func (l *lease) stop() {
	if l.stopStream != nil {
		l.stopStream()
	}
	l.stream, l.stopStream = nil, nil
}

// forget drops a lease that has ended, and with it its keys.
func (l *lease) forget() { l.id, l.held = 0, nil }

// put makes a value stand at a key, under the lease, and marks the API as
// known. It does nothing when the value stands there already.
func (l *lease) put(ctx context.Context, conn *etcdclient.Connection, key string, entry entry) error {
	if l.held[key] == entry.value {
		return nil
	}
	client, err := conn.Ready(ctx)
	if err != nil {
		return err
	}
	put := clientv3.OpPut(key, entry.value, clientv3.WithLease(l.id))
	since := fmt.Sprintf(`{"since":%q}`, time.Now().UTC().Format(time.RFC3339))
	_, err = client.Txn(ctx).
		If(clientv3.Compare(clientv3.CreateRevision(entry.known), "=", 0)).
		Then(put, clientv3.OpPut(entry.known, since)).
		Else(put).
		Commit()
	if err != nil {
		return l.lost(doing("registering", err))
	}
	l.held[key] = entry.value
	return nil
}

// remove takes a key away, if it is still the lease's.
func (l *lease) remove(ctx context.Context, conn *etcdclient.Connection, key string) error {
	client, err := conn.Ready(ctx)
	if err != nil {
		return err
	}
	_, err = client.Txn(ctx).
		If(clientv3.Compare(clientv3.LeaseValue(key), "=", l.id)).
		Then(clientv3.OpDelete(key)).
		Commit()
	if err != nil {
		return l.lost(doing("removing a registration", err))
	}
	delete(l.held, key)
	return nil
}

// lost forgets the lease when err says that it has ended.
func (l *lease) lost(err error) error {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		l.forget()
	}
	return err
}

// end gives the lease back, and with it every key under it.
func (l *lease) end(ctx context.Context, conn *etcdclient.Connection) error {
	if l.id == 0 {
		return nil
	}
	l.stop()
	client, err := conn.Ready(ctx)
	if err != nil {
		return err
	}
	if _, err := client.Revoke(ctx, l.id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return doing("giving the lease back", err)
	}
	l.forget()
	return nil
}

// check compares what stands in etcd with what was put there, when that is
// due. What somebody else changed is forgotten, so that it is put again.
func (l *lease) check(ctx context.Context, conn *etcdclient.Connection) error {
	if time.Now().Before(l.checkAt) {
		return nil
	}
	client, err := conn.Ready(ctx)
	if err != nil {
		return err
	}
	for keys := range slices.Chunk(slices.Collect(maps.Keys(l.held)), keysPerTxn) {
		gets := make([]clientv3.Op, len(keys))
		for i, key := range keys {
			gets[i] = clientv3.OpGet(key)
		}
		reply, err := client.Txn(ctx).Then(gets...).Commit()
		if err != nil {
			return doing("checking what is registered", err)
		}
		for i, key := range keys {
			found := reply.Responses[i].GetResponseRange().GetKvs()
			if len(found) != 1 || found[0].GetLease() != int64(l.id) || !bytes.Equal(found[0].GetValue(), []byte(l.held[key])) {
				delete(l.held, key)
				l.renewAt = time.Now() // the next step, at once, puts it again
			}
		}
	}
	l.checkAt = between(l.ttl/2, l.ttl)
	return nil
}
