package instanceset_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/instanceset"
)

func at(key, address string, created int64) instanceset.Entry {
	entry := instanceset.Entry{Key: key, Created: created}
	if address != "" {
		entry.Instance = &discovery.Instance{Address: address, Version: key}
	}
	return entry
}

// versions returns the versions, which are the keys, of a set's instances.
func versions(s *instanceset.Set) []string {
	var keys []string
	for _, instance := range s.List() {
		keys = append(keys, instance.Version)
	}
	return keys
}

func TestOfAnAddressTheLatestCounts(t *testing.T) {
	t.Parallel()
	var s instanceset.Set
	for _, step := range []struct {
		name   string
		change func()
		want   []string
		keys   int
	}{
		{"the empty set", func() {}, nil, 0},
		{"the first", func() { s.Put(at("a", "10.0.0.2:1", 1)) }, []string{"a"}, 1},
		{"another address", func() { s.Put(at("b", "10.0.0.1:1", 2)) }, []string{"b", "a"}, 2},
		{"a later one at an address", func() { s.Put(at("c", "10.0.0.2:1", 3)) }, []string{"b", "c"}, 3},
		{"an earlier one at an address", func() { s.Put(at("d", "10.0.0.1:1", 1)) }, []string{"b", "c"}, 4},
		{"the latest goes", func() { s.Remove("c") }, []string{"b", "a"}, 3},
		{"a key moves", func() { s.Put(at("b", "10.0.0.3:1", 4)) }, []string{"d", "a", "b"}, 3},
		{"a value turns bad", func() { s.Put(at("d", "", 5)) }, []string{"a", "b"}, 3},
		{"a bad one goes", func() { s.Remove("d") }, []string{"a", "b"}, 2},
		{"an unknown one goes", func() { s.Remove("x") }, []string{"a", "b"}, 2},
		{"all are replaced", func() { s.Reset([]instanceset.Entry{at("y", "10.0.0.9:1", 1), at("z", "", 2)}) }, []string{"y"}, 2},
	} {
		step.change()
		if got := versions(&s); !slices.Equal(got, step.want) || s.Len() != step.keys {
			t.Errorf("after %q: %v of %d keys, want %v of %d", step.name, got, s.Len(), step.want, step.keys)
		}
	}
}

// TestChangesAmountToALaterListing compares a set that is changed bit by bit with one
// that is made at once.
func TestChangesAmountToALaterListing(t *testing.T) {
	t.Parallel()
	type state struct{ now, then []*discovery.Instance }
	var returned []state
	var changed instanceset.Set
	entries := make(map[string]instanceset.Entry)
	for step := range 2000 {
		key := strconv.Itoa(rand.IntN(50))
		if rand.IntN(3) == 0 {
			changed.Remove(key)
			delete(entries, key)
		} else {
			entry := at(key, fmt.Sprintf("10.0.0.%d:1", rand.IntN(20)), int64(step))
			changed.Put(entry)
			entries[key] = entry
		}
		var listed instanceset.Set
		var all []instanceset.Entry
		for _, entry := range entries {
			all = append(all, entry)
		}
		listed.Reset(all)
		if !slices.Equal(versions(&changed), versions(&listed)) || changed.Len() != listed.Len() {
			t.Fatalf("after %d changes: %v, and listed at once: %v", step, versions(&changed), versions(&listed))
		}
		if rand.IntN(5) > 0 {
			continue // so that some changes are made to a list that was not returned
		}
		list := changed.List()
		returned = append(returned, state{list, slices.Clone(list)})
	}
	for _, list := range returned {
		if !slices.Equal(list.now, list.then) {
			t.Fatal("a list that was returned has changed")
		}
	}
}

func TestInstancesStayAsTheyWereReturned(t *testing.T) {
	t.Parallel()
	var s instanceset.Set
	s.Put(at("a", "10.0.0.1:1", 1))
	before := s.List()
	s.Put(at("b", "10.0.0.1:1", 2))
	s.Remove("a")
	if len(before) != 1 || before[0].Version != "a" {
		t.Errorf("the instances became %v", before)
	}
}

func TestAnUnchangedInstanceIsTheSamePointer(t *testing.T) {
	t.Parallel()
	var s instanceset.Set
	s.Reset([]instanceset.Entry{at("a", "10.0.0.1:1", 1), at("b", "10.0.0.2:1", 2)})
	first := s.List()
	s.Put(at("c", "10.0.0.3:1", 3))
	second := s.List()
	s.Reset([]instanceset.Entry{at("a", "10.0.0.1:1", 1), at("x", "10.0.0.2:1", 2)})
	third := s.List()
	if first[0] != second[0] || first[1] != second[1] || second[0] != third[0] {
		t.Error("an instance that did not change is another pointer")
	}
	if second[1] == third[1] {
		t.Error("an instance that changed is the same pointer")
	}
}
