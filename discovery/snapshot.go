package discovery

import (
	"slices"
	"time"

	"github.com/onecall-dev/onecall/internal/nearest"
)

// suggestions is how many names an error suggests.
const suggestions = 3

// Snapshot is what a registry knows of one API at one moment. Its slices are
// shared: nobody changes them.
type Snapshot struct {
	// API is the bus name.
	API string
	// Instances are sorted by address, one an address: a process that took
	// over an address replaces the one before it. While the registry is
	// unreachable they are the last known.
	Instances []Instance
	// Known is whether anybody ever served the API.
	Known bool
	// KnownAPIs are names of APIs that the registry knows, sorted; filled only
	// when this one is not among them.
	KnownAPIs []string
	// LastSeen is, of an API without an instance, when one was last known to
	// be there; zero when that is not known.
	LastSeen time.Time
	// Unreachable is why the registry can't be asked just now, else nil.
	Unreachable *UnreachableError
}

// Err is what keeps callers of the API from finding an instance: an
// *[UnreachableError], *[UnknownAPIError] or *[NoInstanceError]; nil when
// there is an instance that serves.
func (s Snapshot) Err() error {
	serving := slices.ContainsFunc(s.Instances, func(i Instance) bool { return i.State != Draining })
	switch {
	case serving:
		return nil
	case s.Unreachable != nil:
		return s.Unreachable
	case !s.Known:
		return &UnknownAPIError{API: s.API, KnownAPIs: s.KnownAPIs, Nearest: nearest.Names(s.API, s.KnownAPIs, suggestions)}
	default:
		return &NoInstanceError{API: s.API, Draining: len(s.Instances), LastSeen: s.LastSeen}
	}
}
