package timeout

import (
	"cmp"
	"fmt"
	"time"
)

// Default is the timeout of a call for which no other limit is set.
const Default = 5 * time.Second

// Source is the place where a limit is set.
type Source int

// The sources, from the lowest precedence to the highest.
const (
	// FromDefault is [Default].
	FromDefault Source = iota
	// FromAPI is (onecall.v1.api).timeout in the .proto.
	FromAPI
	// FromRPC is (onecall.v1.rpc).timeout in the .proto.
	FromRPC
	// FromOption is the call option [Option].
	FromOption
	// FromCaller is the deadline of the caller's context.
	FromCaller
)

// String describes the source.
func (s Source) String() string {
	switch s {
	case FromDefault:
		return "the default timeout"
	case FromAPI:
		return "the API's timeout"
	case FromRPC:
		return "the RPC's timeout"
	case FromOption:
		return "the call's Timeout option"
	case FromCaller:
		return "the caller's own deadline"
	default:
		return fmt.Sprintf("Source(%d)", int(s))
	}
}

// Limit is the most time that a call may take, and the place where that is set.
type Limit struct {
	Duration time.Duration
	Source   Source
}

// Declared returns the limit of a unary RPC. rpc and api are the timeouts that the RPC
// and its API declare, 0 if they declare none.
func Declared(rpc, api time.Duration) Limit {
	switch {
	case rpc > 0:
		return Limit{rpc, FromRPC}
	case api > 0:
		return Limit{api, FromAPI}
	default:
		return Limit{Default, FromDefault}
	}
}

// describe formats the limit for error texts.
func (l Limit) describe() string {
	if l.Source == FromCaller && l.Duration <= 0 {
		return l.Source.String() + ", which was over when the call began,"
	}
	if l.Source == FromCaller {
		return fmt.Sprintf("%v (%v)", l.Source, round(l.Duration))
	}
	return fmt.Sprintf("%v, %v", l.Duration, l.Source)
}

// round removes the digits that do not matter to a reader.
func round(d time.Duration) time.Duration {
	for unit := time.Second; unit > 1; unit /= 1000 {
		if d >= unit {
			return d.Round(cmp.Or(unit/1000, 1))
		}
	}
	return d
}
