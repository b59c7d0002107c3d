// Package instanceset keeps the instances of one API, for registries: sorted by
// address, and of each address the one that was registered last.
package instanceset

import (
	"cmp"
	"slices"

	"github.com/onecall-dev/onecall/discovery"
)

// Set is what a registry has of one API. The zero value is empty. A change costs as
// much with a thousand entries as with one, but for the copy that Instances returns.
// Its methods are not safe for concurrent use.
type Set struct {
	// addresses holds the address of each key; "" for a value that cannot be used.
	addresses map[string]string
	// sorted are the usable entries by address, and of one address the latest first.
	sorted []Entry
	// instances are what Instances returns, nil after a change.
	instances []discovery.Instance
}

// Entry is what a registry has at one key.
type Entry struct {
	// Key is unique within the API.
	Key string
	// Instance has no address if the value cannot be used. Such an entry counts, and
	// Instances leaves it out.
	Instance discovery.Instance
	// Created orders the entries of one address: the greatest is the latest.
	Created int64
}

// Reset replaces all entries. No two of them may have the same key.
func (s *Set) Reset(entries []Entry) {
	s.addresses = make(map[string]string, len(entries))
	s.sorted = make([]Entry, 0, len(entries))
	for _, entry := range entries {
		s.addresses[entry.Key] = entry.Instance.Address
		if entry.Instance.Address != "" {
			s.sorted = append(s.sorted, entry)
		}
	}
	slices.SortFunc(s.sorted, compare)
	s.instances = nil
}

// Put adds an entry, in place of the one with the same key.
func (s *Set) Put(entry Entry) {
	s.instances = nil
	if at := s.index(entry.Key); at >= 0 && compare(s.sorted[at], entry) == 0 {
		s.sorted[at] = entry // where it was, as an instance that begins to drain
		return
	}
	s.Remove(entry.Key)
	if s.addresses == nil {
		s.addresses = make(map[string]string)
	}
	s.addresses[entry.Key] = entry.Instance.Address
	if entry.Instance.Address != "" {
		i, _ := slices.BinarySearchFunc(s.sorted, entry, compare)
		s.sorted = slices.Insert(s.sorted, i, entry)
	}
}

// Remove removes the entry of a key, if there is one.
func (s *Set) Remove(key string) {
	at := s.index(key)
	delete(s.addresses, key)
	if at >= 0 {
		s.sorted = slices.Delete(s.sorted, at, at+1)
		s.instances = nil
	}
}

// index returns the index of a key in sorted, -1 if there is no usable entry.
func (s *Set) index(key string) int {
	address := s.addresses[key]
	if address == "" {
		return -1
	}
	i, _ := slices.BinarySearchFunc(s.sorted, address, func(entry Entry, address string) int {
		return cmp.Compare(entry.Instance.Address, address)
	})
	for s.sorted[i].Key != key {
		i++
	}
	return i
}

// Len returns how many keys there are, also those of values that cannot be used.
func (s *Set) Len() int { return len(s.addresses) }

// Entries returns all usable entries. The slice must not be changed, and is valid
// until the next change of the set.
func (s *Set) Entries() []Entry { return s.sorted }

// Instances returns the latest instance of each address, sorted by address. The slice
// must not be changed, and stays as it is when the set changes.
func (s *Set) Instances() []discovery.Instance {
	if s.instances != nil {
		return s.instances
	}
	s.instances = make([]discovery.Instance, 0, len(s.sorted))
	for i := range s.sorted {
		if i == 0 || s.sorted[i].Instance.Address != s.sorted[i-1].Instance.Address {
			s.instances = append(s.instances, s.sorted[i].Instance)
		}
	}
	return s.instances
}

func compare(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.Instance.Address, b.Instance.Address), cmp.Compare(b.Created, a.Created))
}
