package instanceset_test

import (
	"fmt"
	"testing"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/instanceset"
)

// BenchmarkAChange is a change of one of a thousand instances, and a snapshot.
func BenchmarkAChange(b *testing.B) {
	var s instanceset.Set
	var entries []instanceset.Entry
	for i := range 1000 {
		entries = append(entries, at(fmt.Sprint("key", i), fmt.Sprintf("10.0.%d.%d:443", i/250, i%250), int64(i)))
	}
	s.Reset(entries)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		entry := entries[i%len(entries)]
		entry.Instance = &discovery.Instance{Address: entry.Instance.Address}
		s.Put(entry)
		s.List()
	}
}
