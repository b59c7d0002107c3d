package discovery

import (
	"slices"
	"time"

	"github.com/onecall-dev/onecall/internal/nearest"
)

// suggestions is how many names an error suggests.
const suggestions = 3

// Snapshot is what a registry knows of one API at one moment. Its slices are
// shared and must not be changed.
type Snapshot struct {
	// API is the bus name.
	API string
	// Instances are sorted by address. Each address has one: a later process at an
	// address replaces the earlier one. While the registry is unreachable they are
	// the last known.
	Instances []Instance
	// Known says that the API was served at some time.
	Known bool
	// KnownAPIs are the names of the known APIs, sorted; empty if this one is known.
	KnownAPIs []string
	// LastSeen is, for an API without an instance, when one was last registered; zero
	// if that is not known.
	LastSeen time.Time
	// Unreachable is why the registry cannot be read now, nil if it can.
	Unreachable *UnreachableError
}

// Err returns why callers of the API find no instance: an *[UnreachableError],
// *[UnknownAPIError] or *[NoInstanceError]; nil if there is an instance that serves.
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
