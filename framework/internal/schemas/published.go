package schemas

import (
	"sync"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/schema"
)

// MostKept is how many schemas of an API are kept at most.
const MostKept = 5

// Published are the schemas of an API that its instances publish, for programs
// without its generated code. Its methods are safe for all goroutines.
type Published struct {
	mu sync.Mutex // guards the fields below
	// fetched are the schemas that were read, by digest. digest is the digest of the
	// schema in use.
	fetched map[string]*schema.Schema
	digest  string
}

// Empty reports whether no schema is kept.
func (r *Published) Empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.fetched) == 0
}

// Of returns the schema with a digest, nil if it was not read.
func (r *Published) Of(digest string) *schema.Schema {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fetched[digest]
}

// InUse returns the schema in use and its digest.
func (r *Published) InUse() (*schema.Schema, string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fetched[r.digest], r.digest
}

// Use makes the schema with a digest the schema in use.
func (r *Published) Use(digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.digest = digest
}

// Find returns a schema of one of the instances for which has returns true, and its
// digest. It prefers the schema in use.
func (r *Published) Find(instances []discovery.Instance, has func(*schema.Schema) bool) (found *schema.Schema, digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, instance := range instances {
		fetched := r.fetched[instance.Schema]
		if fetched != nil && has(fetched) && (found == nil || instance.Schema == r.digest) {
			found, digest = fetched, instance.Schema
		}
	}
	return found, digest
}

// Keep keeps a schema. It drops the schemas that no instance has, and others if there
// are too many.
func (r *Published) Keep(fetched *schema.Schema, digest string, isCurrent func(digest string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for other := range r.fetched {
		if !isCurrent(other) || len(r.fetched) >= MostKept {
			delete(r.fetched, other)
		}
	}
	if r.fetched == nil {
		r.fetched = make(map[string]*schema.Schema)
	}
	r.fetched[digest] = fetched
	if r.fetched[r.digest] == nil {
		r.digest = digest
	}
}
