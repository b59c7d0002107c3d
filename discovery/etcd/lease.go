package etcd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// keysPerTxn and bytesPerTxn bound one transaction; etcd allows 128 operations
// and 1.5 MiB.
const (
	keysPerTxn  = 64
	bytesPerTxn = maxDescriptorBytes
)

// lease is the registrar's one lease and the keys under it. Only the
// registrar's goroutine uses it.
type lease struct {
	ttl time.Duration
	log *slog.Logger
	// warn logs a line of which there are most within a minute.
	warn func(text string, most int, attrs ...any)

	id clientv3.LeaseID // 0: none
	// expires is when the lease ends if it is not renewed, as far as is known
	// here: no later than etcd thinks.
	expires time.Time
	// held are the keys that may stand under id.
	held map[string]holding
	// renewAt and checkAt are when keep-alive and the comparison of held with
	// what stands in etcd are due.
	renewAt, checkAt time.Time
	// sweeps is how many checks are to look for keys that should not stand.
	sweeps int

	stream     grpc.BidiStreamingClient[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]
	stopStream context.CancelFunc

	// deleted tells that a key under the lease was deleted, and so that the
	// lease may have been revoked; nil when nobody watches.
	deleted     clientv3.WatchChan
	stopDeleted context.CancelFunc
	watchAt     time.Time // when a watch that ended is begun again
}

// holding is what is known of a key that may stand under the lease.
type holding struct {
	value  string // "" while it is not known
	stands bool   // false while that is not known
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
	if l.id != 0 {
		asked := time.Now()
		alive, err := l.renew(ctx, life, conn)
		switch {
		case errors.Is(err, rpctypes.ErrPermissionDenied):
			// Etcd renews no lease that has a key which may not be put here any
			// more. The other keys leave it for another.
			l.warn("etcd does not let the lease be kept alive; asking for another", linesAMinute, "error", err)
		case err != nil:
			return doing("keeping the lease alive", err)
		case alive:
			l.renewed(asked)
			return nil
		default:
			l.warn("the lease has ended in etcd; asking for another", linesAMinute)
		}
		l.forget()
	}
	client, err := conn.Ready(ctx)
	if err != nil {
		return err
	}
	asked := time.Now()
	granted, err := client.Grant(ctx, int64(l.ttl/time.Second))
	if err != nil {
		return doing("asking for a lease", err)
	}
	l.id = granted.ID
	l.held = make(map[string]holding)
	l.renewed(asked)
	l.checkAt = between(l.ttl/2, l.ttl)
	return nil
}

// renewed notes that the lease was granted or kept alive after it was asked for.
func (l *lease) renewed(asked time.Time) {
	l.expires = asked.Add(l.ttl)
	l.renewAt = asked.Add(l.ttl / 3)
}

// renew asks etcd to keep the lease alive, over one stream as long as that
// works: each new one would cost an authentication, and a member that is being
// stopped still serves the streams that it has. alive is false when the lease
// has ended.
func (l *lease) renew(ctx, life context.Context, conn *etcdclient.Connection) (alive bool, err error) {
	defer func() {
		if err != nil {
			l.stop()
			err = rpctypes.Error(err)
		}
	}()
	if err := l.open(ctx, life, conn); err != nil {
		return false, err
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

// open opens the stream of keep-alives, if there is none.
func (l *lease) open(ctx, life context.Context, conn *etcdclient.Connection) error {
	if l.stream != nil {
		return nil
	}
	client, err := conn.Ready(ctx)
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
	l.stream, l.stopStream = stream, end
	return nil
}

// stop ends the stream of keep-alives and the watch.
func (l *lease) stop() {
	if l.stopStream != nil {
		l.stopStream()
	}
	l.stream, l.stopStream = nil, nil
	if l.stopDeleted != nil {
		l.stopDeleted()
	}
	l.deleted, l.stopDeleted = nil, nil
}

// forget drops a lease that has ended, and with it its keys, and whatever kept
// it alive.
func (l *lease) forget() {
	l.stop()
	l.id, l.held, l.expires, l.sweeps = 0, nil, time.Time{}, 0
}

// holds tells whether all of the keys stand under the lease, as far as is known
// here.
func (l *lease) holds(entries map[string]entry) bool {
	for key := range entries {
		if !l.held[key].stands {
			return false
		}
	}
	return true
}

// write brings the keys under the lease to the desired ones. Descriptors stand
// there before the instances of which they are. What etcd lets nobody put or remove
// here keeps nothing else from being written: denied has those keys. wrote is
// whether there was anything to write.
func (l *lease) write(ctx context.Context, conn *etcdclient.Connection, desired map[string]entry) (denied map[string]error, wrote bool, err error) {
	var changed, surplus []string
	for key, entry := range desired {
		if held, ok := l.held[key]; !ok || held.value != entry.value {
			changed = append(changed, key)
		}
	}
	for key := range l.held {
		if _, wanted := desired[key]; !wanted {
			surplus = append(surplus, key)
		}
	}
	denied = make(map[string]error)
	if len(changed)+len(surplus) == 0 {
		return denied, false, nil
	}
	client, err := conn.Ready(ctx)
	if err != nil {
		return nil, false, err
	}
	if err := l.remove(ctx, client, surplus, denied); err != nil {
		return nil, false, err
	}
	slices.SortFunc(changed, func(a, b string) int {
		return cmp.Or(cmp.Compare(desired[a].known, desired[b].known), cmp.Compare(a, b))
	})
	for len(changed) > 0 {
		some := firstThatFit(changed, desired)
		if err := l.putAllowed(ctx, client, some, desired, denied); err != nil {
			return nil, false, err
		}
		changed = changed[len(some):]
	}
	return denied, true, nil
}

// putAllowed is put, one by one when some of the keys may not be put.
func (l *lease) putAllowed(ctx context.Context, client *clientv3.Client, keys []string, desired map[string]entry, denied map[string]error) error {
	err := l.put(ctx, client, keys, desired)
	switch {
	case !errors.Is(err, rpctypes.ErrPermissionDenied):
		return err
	case len(keys) == 1:
		denied[keys[0]] = err
		return nil
	}
	for _, key := range keys {
		if err := l.putAllowed(ctx, client, []string{key}, desired, denied); err != nil {
			return err
		}
	}
	return nil
}

// firstThatFit gives the first keys that fit into one transaction.
func firstThatFit(keys []string, desired map[string]entry) []string {
	size := 0
	for i, key := range keys {
		size += len(key) + len(desired[key].value)
		if i > 0 && (size > bytesPerTxn || i == keysPerTxn/2) { // an instance takes two operations
			return keys[:i]
		}
	}
	return keys
}

// put makes the desired values stand at keys, under the lease, and marks their
// APIs as known.
func (l *lease) put(ctx context.Context, client *clientv3.Client, keys []string, desired map[string]entry) error {
	seen := encodeKnown(time.Now())
	var puts []clientv3.Op
	var marked []string
	for _, key := range keys {
		puts = append(puts, clientv3.OpPut(key, desired[key].value, clientv3.WithLease(l.id)))
		// Etcd takes each key once in a transaction.
		if known := desired[key].known; known != "" && !slices.Contains(marked, known) {
			puts = append(puts, clientv3.OpPut(known, seen))
			marked = append(marked, known)
		}
	}
	before := make(map[string]holding, len(keys))
	for _, key := range keys {
		if held, ok := l.held[key]; ok {
			before[key] = held
		}
		l.held[key] = holding{stands: l.held[key].stands} // the new value may stand there even when no answer comes
	}
	if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
		if errors.Is(err, rpctypes.ErrPermissionDenied) { // which is an answer
			for _, key := range keys {
				delete(l.held, key)
			}
			maps.Copy(l.held, before)
		}
		return l.lost(doing("registering", err))
	}
	for _, key := range keys {
		l.held[key] = holding{value: desired[key].value, stands: true}
	}
	return nil
}

// remove takes keys away, if they are still the lease's. denied gets those that
// etcd lets nobody remove here.
func (l *lease) remove(ctx context.Context, client *clientv3.Client, keys []string, denied map[string]error) error {
	for _, key := range keys {
		_, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.LeaseValue(key), "=", l.id)).
			Then(clientv3.OpDelete(key)).
			Commit()
		switch {
		case errors.Is(err, rpctypes.ErrPermissionDenied):
			denied[key] = doing("removing a registration", err)
			l.renewAt = time.Now() // which finds out whether the lease can be kept
		case err != nil:
			return l.lost(doing("removing a registration", err))
		default:
			delete(l.held, key)
			l.sweeps = sweepsAfterRemoval
		}
	}
	return nil
}

// sweepsAfterRemoval is how many checks look for keys that should not stand: a
// member that was frozen may do what it was told long after it was told so.
const sweepsAfterRemoval = 3

// lost forgets the lease when err says that it has ended.
func (l *lease) lost(err error) error {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		l.forget()
	}
	return err
}

// end gives the lease back, and with it every key under it; asked is whether there
// was one.
func (l *lease) end(ctx context.Context, conn *etcdclient.Connection) (asked bool, err error) {
	if l.id == 0 {
		return false, nil
	}
	l.stop()
	client, err := conn.Ready(ctx)
	if err != nil {
		return false, err
	}
	l.renewAt = time.Now() // it may have ended even when no answer comes
	if _, err := client.Revoke(ctx, l.id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return false, doing("giving the lease back", err)
	}
	l.forget()
	return true, nil
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
			l.compare(key, reply.Responses[i].GetResponseRange().GetKvs())
		}
	}
	if err := l.sweep(ctx, client); err != nil {
		return err
	}
	l.checkAt = between(l.ttl/2, l.ttl)
	return nil
}

// compare takes in what stands at a key. The next step, at once, puts again what
// somebody else deleted or changed.
func (l *lease) compare(key string, found []*mvccpb.KeyValue) {
	ours := len(found) == 1 && found[0].GetLease() == int64(l.id)
	if ours && bytes.Equal(found[0].GetValue(), []byte(l.held[key].value)) {
		return
	}
	l.warn("a registration was deleted or changed in etcd by another program; putting it again", 1, "key", key)
	if ours {
		l.held[key] = holding{stands: l.held[key].stands}
	} else {
		delete(l.held, key)
	}
	l.renewAt = time.Now()
}

// sweep finds keys under the lease that should not stand, for a while after
// others were removed. The next step, at once, removes them.
func (l *lease) sweep(ctx context.Context, client *clientv3.Client) error {
	if l.sweeps == 0 {
		return nil
	}
	l.sweeps--
	under, err := client.TimeToLive(ctx, l.id, clientv3.WithAttachedKeys())
	if err != nil {
		return doing("checking what is registered", err)
	}
	for _, key := range under.Keys {
		if _, held := l.held[string(key)]; !held {
			l.held[string(key)] = holding{}
			l.renewAt = time.Now()
		}
	}
	return nil
}

// guard opens the stream of keep-alives before it is needed, since a member that
// is being stopped takes no new one, and begins to watch one of the keys, if
// nobody does: a lease that is revoked takes all its keys along. What goes wrong
// with either is mended when keep-alive and check are due.
func (l *lease) guard(ctx, life context.Context, conn *etcdclient.Connection) {
	_ = l.open(ctx, life, conn)
	if l.deleted != nil || len(l.held) == 0 || time.Now().Before(l.watchAt) {
		return
	}
	client, err := conn.Ready(ctx)
	if err != nil {
		return
	}
	watchCtx, end := context.WithCancel(life)
	stop := context.AfterFunc(ctx, end)
	defer stop()
	key := slices.Min(slices.Collect(maps.Keys(l.held)))
	l.deleted, l.stopDeleted = client.Watch(watchCtx, key, clientv3.WithFilterPut()), end
	l.log.Debug("watching a key of the lease", "key", key, "lease", l.String())
}

// suspect has the lease and its keys looked at, since one of them was deleted.
// When it is the watch that has ended, another begins later.
func (l *lease) suspect(watching bool) {
	if watching {
		l.renewAt, l.checkAt = time.Now(), time.Now()
		l.stopDeleted() // the key may be one that was removed here
		l.deleted, l.stopDeleted = nil, nil
		return
	}
	l.stopDeleted()
	l.deleted, l.stopDeleted = nil, nil
	l.watchAt = time.Now().Add(l.ttl / 3)
}
