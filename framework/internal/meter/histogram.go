package meter

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/onecall-dev/onecall/telemetry"
)

// bounds are the upper bounds of the buckets.
var bounds = func() (all []time.Duration) {
	for _, bound := range telemetry.Bounds() {
		all = append(all, time.Duration(bound*float64(time.Second)+0.5))
	}
	return all
}()

// bucketCount is the number of buckets: one more than bounds.
const bucketCount = 42

// histogram counts durations in buckets.
type histogram struct {
	sum     atomic.Int64 // in nanoseconds
	buckets [bucketCount]atomic.Uint64
}

// record counts a duration.
func (h *histogram) record(took time.Duration) {
	index, _ := slices.BinarySearch(bounds, took) // the first bound that is not below
	h.buckets[index].Add(1)
	h.sum.Add(int64(took))
}

// point returns the counts.
func (h *histogram) point() telemetry.Point {
	point := telemetry.Point{Sum: time.Duration(h.sum.Load()).Seconds(), Buckets: make([]uint64, bucketCount)}
	for i := range h.buckets {
		point.Buckets[i] = h.buckets[i].Load()
	}
	return point
}
