package etcd

import "time"

// ListWithin sets how long the first attempt to list an API may take, and each later
// one, before the first watch.
func (r *Registry) ListWithin(first, later time.Duration) {
	r.watcher.listWithin = func(failures int) time.Duration {
		if failures == 0 {
			return first
		}
		return later
	}
}

// RepairEvery sets how often what is known is compared with etcd, before the
// first watch.
func (r *Registry) RepairEvery(every time.Duration) { r.watcher.repair = every }

// ReadAtMost sets how many keys of an API are read and how many bytes of a watch
// are kept, before the first watch.
func (r *Registry) ReadAtMost(keys int64, kept int) {
	r.watcher.limits = limits{keys: keys, kept: kept}
}
