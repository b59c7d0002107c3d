package main

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/framework"
)

// settled counts what was learned of calls whose outcome was unknown.
type settled struct {
	replies, failures, refused int
	// notKept is how many succeeded whose reply was not kept.
	notKept int
	// gone is how many had an instance that has ended or forgotten them, and unknown
	// all others of which nothing was learned.
	gone, unknown int
}

// count counts the result of a settle.
func (s *settled) count(outcome executionlog.Outcome, err error) {
	switch {
	case outcome == executionlog.OK:
		s.replies++
	case outcome == executionlog.Refused:
		s.refused++
	case outcome == executionlog.Executed && status.Code(err) == codes.DataLoss:
		s.notKept++
	case outcome == executionlog.Executed:
		s.failures++
	case errors.Is(err, framework.ErrForgotten):
		s.gone++
	default:
		s.unknown++
	}
}

// String returns the counts, with the share of the calls whose instance lives.
func (s *settled) String() string {
	known := s.replies + s.failures + s.refused + s.notKept
	return fmt.Sprintf("%d: %d replies, %d errors of handlers, %d refused, %d replies not kept, %d whose instance is gone, %d unknown (%.2f %% of those whose instance lives)",
		known+s.gone+s.unknown, s.replies, s.failures, s.refused, s.notKept, s.gone, s.unknown, 100*float64(known)/float64(max(known+s.unknown, 1)))
}
