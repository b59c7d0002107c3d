package main

import (
	"github.com/onecall-dev/onecall/bench/internal/executionlog"
	"github.com/onecall-dev/onecall/framework"
)

// outcomeOf returns the outcome of a call that failed.
func outcomeOf(err error) executionlog.Outcome {
	switch framework.OutcomeOf(err) {
	case framework.NotSent:
		return executionlog.NotSent
	case framework.Refused:
		return executionlog.Refused
	case framework.Executed:
		return executionlog.Executed
	default:
		return executionlog.Unknown
	}
}
