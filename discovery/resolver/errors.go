package resolver

import (
	"errors"
	"fmt"
	"time"
)

// ErrPending says that the check whether an instance may be used has not ended.
var ErrPending = errors.New("the instance is being checked")

// NoAnswerError says that the registry has not answered yet.
type NoAnswerError struct {
	// API is the bus name.
	API string
	// Since is when it was asked.
	Since time.Time
}

// NewNoAnswerError returns the error of an API that is asked for now.
func NewNoAnswerError(api string) *NoAnswerError { return &NoAnswerError{API: api, Since: time.Now()} }

// Error implements error.
func (e *NoAnswerError) Error() string {
	return fmt.Sprintf("no instance of API %q is known yet: the registry can't be reached or is slow, and was first asked at %s", e.API, e.Since.UTC().Format(time.RFC3339))
}
