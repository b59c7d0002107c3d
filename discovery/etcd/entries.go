package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/contract"
)

// APIs returns the names of all APIs that were ever served, sorted. If etcd cannot be
// read within ctx, or within 5 s, the error is a *[discovery.UnreachableError].
func (r *Registry) APIs(ctx context.Context) ([]string, error) {
	var names []string
	for kv, err := range r.all(ctx, r.keys.allKnown(), true) {
		if err != nil {
			return nil, err
		}
		if name := r.keys.knownAPI(string(kv.GetKey())); contract.CheckName(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Entry is a key of the namespace in etcd, as [Registry.Entries] returns it.
type Entry struct {
	Key string
	// Instance is what the key registers. It is zero if the key registers none.
	Instance discovery.Instance
	// Lease is the lease that the key of an instance is under, 0 if there is none.
	Lease int64
	// Err is why callers cannot use the key, nil if they can.
	Err error
}

// Entries returns the keys of all instances in etcd, of their descriptors, and of the APIs
// that were ever served, for tools that look for keys which should not be there. A caller
// of [Registry.Watch] sees only those that it can use. If etcd cannot be read within ctx,
// or within 5 s, the error is a *[discovery.UnreachableError].
func (r *Registry) Entries(ctx context.Context) ([]Entry, error) {
	var entries []Entry
	instances := make(map[string]bool) // the keys below apis/, without the prefix
	for kv, err := range r.all(ctx, string(r.keys)+apisPart, false) {
		if err != nil {
			return nil, err
		}
		entry, below := newEntry(kv), strings.TrimPrefix(string(kv.GetKey()), string(r.keys)+apisPart)
		instances[below] = true
		if api, _, ok := strings.Cut(below, "/"); !ok {
			entry.Err = errors.New("the key has no instance after the name of its API")
		} else if entry.Err = contract.CheckName(api); entry.Err == nil {
			entry.Instance, entry.Err = decodeInstance(api, kv.GetValue())
		}
		entries = append(entries, entry)
	}
	for kv, err := range r.all(ctx, string(r.keys)+schemasPart, true) {
		if err != nil {
			return nil, err
		}
		entry := newEntry(kv)
		if !instances[strings.TrimPrefix(entry.Key, string(r.keys)+schemasPart)] {
			entry.Err = errors.New("these descriptors belong to no instance")
		}
		entries = append(entries, entry)
	}
	for kv, err := range r.all(ctx, r.keys.allKnown(), true) {
		if err != nil {
			return nil, err
		}
		entry := newEntry(kv)
		entry.Err = contract.CheckName(r.keys.knownAPI(entry.Key))
		entries = append(entries, entry)
	}
	return entries, nil
}

func newEntry(kv *mvccpb.KeyValue) Entry {
	return Entry{Key: string(kv.GetKey()), Lease: kv.GetLease()}
}

// all yields the keys with a prefix, page by page, or the error that ends them.
func (r *Registry) all(ctx context.Context, prefix string, keysOnly bool) iter.Seq2[*mvccpb.KeyValue, error] {
	return func(yield func(*mvccpb.KeyValue, error) bool) {
		ctx, cancel := context.WithTimeout(ctx, listLongest)
		defer cancel()
		client, err := r.conn.Ready(ctx)
		options := []clientv3.OpOption{clientv3.WithRange(clientv3.GetPrefixRangeEnd(prefix))}
		if keysOnly {
			options = append(options, clientv3.WithKeysOnly())
		}
		for from, page, read := prefix, int64(keysPerPage), int64(0); err == nil; {
			var reply *clientv3.GetResponse
			reply, err = client.Get(ctx, from, append(slices.Clip(options), clientv3.WithLimit(page))...)
			if status.Code(err) == codes.ResourceExhausted && page > 1 { // the answer would be too large
				page, err = max(1, page/8), nil
				continue
			}
			if err != nil {
				break
			}
			for _, kv := range reply.Kvs {
				if !yield(kv, nil) {
					return
				}
				from, read = string(kv.GetKey())+"\x00", read+1
			}
			if !reply.More {
				return
			}
			if read > r.watcher.limits.keys {
				err = fmt.Errorf("there are more than %d keys below %s: remove those that do not belong there", r.watcher.limits.keys, prefix)
			}
		}
		yield(nil, &discovery.UnreachableError{Registry: r.describe(), Since: time.Now(), Cause: err})
	}
}
