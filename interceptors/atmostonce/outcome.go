package atmostonce

import "fmt"

// Outcome is what is known of a call that failed: did its handler start?
type Outcome int

// The outcomes.
const (
	// Unknown: it may have run or not. All is unknown that is not known for
	// certain, deadlines and broken connections included.
	Unknown Outcome = iota
	// NotSent: no attempt ever got a stream, so it did not run and never will.
	NotSent
	// Refused: the instance that it was bound to says that it marked the call
	// and did not run its handler, so that nobody ever will.
	Refused
	// Executed: the handler ran, and this is its error.
	Executed
)

// String gives the outcome in words.
func (o Outcome) String() string {
	switch o {
	case Unknown:
		return "it is not known whether the call ran"
	case NotSent:
		return "the call was not sent"
	case Refused:
		return "the call was refused and did not run"
	case Executed:
		return "the call ran"
	default:
		return fmt.Sprintf("Outcome(%d)", int(o))
	}
}
