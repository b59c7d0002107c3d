package main

import (
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/faulty/ledger"
)

// outcomeOf gives what the caller of a call that failed was told of whether it
// ran.
func outcomeOf(err error) ledger.Outcome {
	switch framework.OutcomeOf(err) {
	case framework.NotSent:
		return ledger.NotSent
	case framework.Refused:
		return ledger.Refused
	case framework.Executed:
		return ledger.Executed
	default:
		return ledger.Unknown
	}
}
