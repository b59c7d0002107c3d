package etcd

import "time"

// RepairEvery sets how often what is known is compared with etcd, before the
// first watch.
func (r *Registry) RepairEvery(every time.Duration) { r.watcher.repair = every }
