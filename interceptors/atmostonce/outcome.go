package atmostonce

import "fmt"

// Outcome is what is known of a failed call: whether its handler started.
type Outcome int

// The outcomes.
const (
	// Unknown: the handler may have run, may be running, or may still run. Whatever
	// is not known for certain is Unknown, such as after a deadline or a broken
	// connection.
	Unknown Outcome = iota
	// NotSent: no attempt got a stream, so the handler did not run and never will.
	NotSent
	// Refused: the instance that the call was bound to says that the handler did not
	// run and never will.
	Refused
	// Executed: the handler ran, and this is its error.
	Executed
)

// String returns the outcome in words.
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
