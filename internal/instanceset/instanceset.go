// Package instanceset keeps the instances of one API, for registries: sorted by
// address, and of each address the one that was registered last. It passes them on to
// resolvers without a copy of each.
package instanceset

import (
	"cmp"
	"slices"

	"github.com/onecall-dev/onecall/discovery"
)

// Set is what a registry has of one API. The zero value is empty. Its methods are not
// safe for concurrent use.
type Set struct {
	// addresses holds the address of each key; "" for a value that cannot be used.
	addresses map[string]string
	// sorted are the usable entries by address, and of one address the latest first.
	sorted []Entry
	// list is what List returns. shared says that it was returned, so that a change
	// copies it first.
	list   []*discovery.Instance
	shared bool
}

// Entry is what a registry has at one key.
type Entry struct {
	// Key is unique within the API.
	Key string
	// Instance is nil if the value cannot be used. Such an entry counts, and List leaves
	// it out. It must not be changed.
	Instance *discovery.Instance
	// Created orders the entries of one address: the greatest is the latest.
	Created int64
}

// address returns the address of an entry, "" if its value cannot be used.
func (e Entry) address() string {
	if e.Instance == nil {
		return ""
	}
	return e.Instance.Address
}

// Reset replaces all entries. No two of them may have the same key. Of an instance that
// the list has already, the list keeps the pointer.
func (s *Set) Reset(entries []Entry) {
	before := s.list
	s.addresses = make(map[string]string, len(entries))
	s.sorted = make([]Entry, 0, len(entries))
	for _, entry := range entries {
		address := entry.address()
		s.addresses[entry.Key] = address
		if address == "" {
			continue
		}
		if at, found := find(before, address); found && before[at].Equal(*entry.Instance) {
			entry.Instance = before[at]
		}
		s.sorted = append(s.sorted, entry)
	}
	slices.SortFunc(s.sorted, compare)
	s.list, s.shared = make([]*discovery.Instance, 0, len(s.sorted)), false
	for i, entry := range s.sorted {
		if i == 0 || entry.address() != s.sorted[i-1].address() {
			s.list = append(s.list, entry.Instance)
		}
	}
}

// Put adds an entry, in place of the one with the same key.
func (s *Set) Put(entry Entry) {
	if at := s.index(entry.Key); at >= 0 && compare(s.sorted[at], entry) == 0 {
		s.sorted[at] = entry // where it was, as an instance that begins to drain
		s.relist(entry.address())
		return
	}
	s.Remove(entry.Key)
	if s.addresses == nil {
		s.addresses = make(map[string]string)
	}
	address := entry.address()
	s.addresses[entry.Key] = address
	if address != "" {
		i, _ := slices.BinarySearchFunc(s.sorted, entry, compare)
		s.sorted = slices.Insert(s.sorted, i, entry)
		s.relist(address)
	}
}

// Remove removes the entry of a key, if there is one.
func (s *Set) Remove(key string) {
	at, address := s.index(key), s.addresses[key]
	delete(s.addresses, key)
	if at >= 0 {
		s.sorted = slices.Delete(s.sorted, at, at+1)
		s.relist(address)
	}
}

// index returns the index of a key in sorted, -1 if there is no usable entry.
func (s *Set) index(key string) int {
	address := s.addresses[key]
	if address == "" {
		return -1
	}
	i, _ := s.latest(address)
	for s.sorted[i].Key != key {
		i++
	}
	return i
}

// latest returns the index in sorted of the latest entry of an address, or where it would
// be.
func (s *Set) latest(address string) (at int, found bool) {
	return slices.BinarySearchFunc(s.sorted, address, func(entry Entry, address string) int {
		return cmp.Compare(entry.address(), address)
	})
}

// relist makes the list have the latest instance of an address.
func (s *Set) relist(address string) {
	latest, some := s.latest(address)
	at, listed := find(s.list, address)
	if some && listed && s.list[at] == s.sorted[latest].Instance {
		return
	}
	if s.shared {
		s.list, s.shared = append(make([]*discovery.Instance, 0, len(s.list)+1), s.list...), false
	}
	switch {
	case some && listed:
		s.list[at] = s.sorted[latest].Instance
	case some:
		s.list = slices.Insert(s.list, at, s.sorted[latest].Instance)
	case listed:
		s.list = slices.Delete(s.list, at, at+1)
	}
}

// find returns the index of an address in a list, or where it would be.
func find(list []*discovery.Instance, address string) (at int, found bool) {
	return slices.BinarySearchFunc(list, address, func(instance *discovery.Instance, address string) int {
		return cmp.Compare(instance.Address, address)
	})
}

// Len returns how many keys there are, also those of values that cannot be used.
func (s *Set) Len() int { return len(s.addresses) }

// Entries returns all usable entries. The slice must not be changed, and is valid
// until the next change of the set.
func (s *Set) Entries() []Entry { return s.sorted }

// List returns the latest instance of each address, sorted by address. The slice and the
// instances must not be changed, and stay as they are when the set changes. An instance
// that did not change is the same pointer as before. A change of a thousand instances
// copies a thousand pointers.
func (s *Set) List() []*discovery.Instance {
	s.shared = true
	return s.list
}

func compare(a, b Entry) int {
	return cmp.Or(cmp.Compare(a.address(), b.address()), cmp.Compare(b.Created, a.Created))
}
