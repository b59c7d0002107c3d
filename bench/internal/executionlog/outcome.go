package executionlog

import "github.com/onecall-dev/onecall/framework"

// OutcomeOf returns the outcome of a call that failed.
func OutcomeOf(err error) Outcome {
	switch framework.OutcomeOf(err) {
	case framework.NotSent:
		return NotSent
	case framework.Refused:
		return Refused
	case framework.Executed:
		return Executed
	default:
		return Unknown
	}
}
