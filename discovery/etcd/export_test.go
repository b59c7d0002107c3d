package etcd

import (
	"time"

	"github.com/onecall-dev/onecall/internal/envconfig"
)

// ListWithin sets how long the first attempt to list an API may take, and each later one.
// Call it before the first watch.
func (r *Registry) ListWithin(first, later time.Duration) {
	r.watcher.listWithin = func(failures int) time.Duration {
		if failures == 0 {
			return first
		}
		return later
	}
}

// RepairEvery sets how often each API is compared with etcd. Call it before the first
// watch.
func (r *Registry) RepairEvery(every time.Duration) { r.watcher.repair = every }

// ReadAtMost sets how many keys of an API are read, and how many bytes of the stream may
// wait. Call it before the first watch.
func (r *Registry) ReadAtMost(keys int64, streamed int) {
	r.watcher.limits = limits{keys: keys, streamed: streamed}
}

// Variables returns the names of the variables of FromEnv.
func Variables() []string { return envconfig.Names(environment{}) }
