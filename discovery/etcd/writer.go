package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// keysPerTxn and bytesPerTxn bound one transaction; etcd allows 128 operations
// and 1.5 MiB.
const (
	keysPerTxn  = 64
	bytesPerTxn = maxDescriptorBytes
)

// sweepsAfterRemoval is how many checks after a removal look for keys that should
// not be there: a member that was frozen may execute an old request late.
const sweepsAfterRemoval = 3

// entry is the desired value of a key.
type entry struct {
	value string
	// known is, for an instance, the key that marks its API as known.
	known string
}

// hasAll reports whether etcd has confirmed all of the keys.
func (l *lease) hasAll(entries map[string]entry) bool {
	for key := range entries {
		if !l.keys[key].confirmed {
			return false
		}
	}
	return true
}

// write puts and removes keys, so that those under the lease are the desired ones.
// Descriptors are put before their instances. A key that etcd does not permit this
// process to put or remove is returned in denied, and does not keep the others from
// being written. wrote is false if there was nothing to write.
func (l *lease) write(ctx context.Context, conn *etcdclient.Connection, desired map[string]entry) (denied map[string]error, wrote bool, err error) {
	var changed, surplus []string
	for key, entry := range desired {
		if state, ok := l.keys[key]; !ok || state.value != entry.value {
			changed = append(changed, key)
		}
	}
	for key := range l.keys {
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
		return nil, false, fmt.Errorf("removing a registration: %w", err)
	}
	slices.SortFunc(changed, func(a, b string) int {
		return cmp.Or(cmp.Compare(desired[a].known, desired[b].known), cmp.Compare(a, b))
	})
	for len(changed) > 0 {
		some := firstThatFit(changed, desired)
		if err := l.putAllowed(ctx, client, some, desired, denied); err != nil {
			return nil, false, fmt.Errorf("registering: %w", err)
		}
		changed = changed[len(some):]
	}
	return denied, true, nil
}

// putAllowed puts keys together, or one by one if some of them are not permitted.
func (l *lease) putAllowed(ctx context.Context, client *clientv3.Client, keys []string, desired map[string]entry, denied map[string]error) error {
	err := l.put(ctx, client, keys, desired)
	switch {
	case !errors.Is(err, rpctypes.ErrPermissionDenied):
		return err
	case len(keys) == 1:
		denied[keys[0]] = fmt.Errorf("registering: %w", err)
		return nil
	}
	for _, key := range keys {
		if err := l.putAllowed(ctx, client, []string{key}, desired, denied); err != nil {
			return err
		}
	}
	return nil
}

// firstThatFit returns the first keys, as many as fit into one transaction.
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

// put puts the desired values of keys in one transaction, under the lease, and marks
// their APIs as known.
func (l *lease) put(ctx context.Context, client *clientv3.Client, keys []string, desired map[string]entry) error {
	seen := encodeKnown(time.Now())
	var puts []clientv3.Op
	var marked []string
	for _, key := range keys {
		puts = append(puts, clientv3.OpPut(key, desired[key].value, clientv3.WithLease(l.id)))
		// etcd accepts each key once in a transaction.
		if known := desired[key].known; known != "" && !slices.Contains(marked, known) {
			puts = append(puts, clientv3.OpPut(known, seen))
			marked = append(marked, known)
		}
	}
	before := make(map[string]keyState, len(keys))
	for _, key := range keys {
		if state, ok := l.keys[key]; ok {
			before[key] = state
		}
		// Without an answer the new value may be in etcd all the same.
		l.keys[key] = keyState{confirmed: l.keys[key].confirmed}
	}
	if _, err := client.Txn(ctx).Then(puts...).Commit(); err != nil {
		if errors.Is(err, rpctypes.ErrPermissionDenied) { // an answer: nothing was put
			for _, key := range keys {
				delete(l.keys, key)
			}
			maps.Copy(l.keys, before)
		}
		return err
	}
	for _, key := range keys {
		l.keys[key] = keyState{value: desired[key].value, confirmed: true}
	}
	return nil
}

// remove deletes keys, if they are still under the lease. It adds to denied those
// that etcd does not permit this process to delete.
func (l *lease) remove(ctx context.Context, client *clientv3.Client, keys []string, denied map[string]error) error {
	for _, key := range keys {
		_, err := client.Txn(ctx).
			If(clientv3.Compare(clientv3.LeaseValue(key), "=", l.id)).
			Then(clientv3.OpDelete(key)).
			Commit()
		switch {
		case errors.Is(err, rpctypes.ErrPermissionDenied):
			denied[key] = fmt.Errorf("removing a registration: %w", err)
			l.renewAt = time.Now() // etcd may no longer renew the lease
		case err != nil:
			return err
		default:
			delete(l.keys, key)
			l.sweeps = sweepsAfterRemoval
		}
	}
	return nil
}
