// Package ledger counts how often calls ran and judges what their callers were
// told.
//
// A handler notes that it ran before it does anything else; a caller notes the
// outcome of each call at its end. Both name the call by an id of the program's
// own, carried in the request message: one call may be issued several times,
// each time under another identity on the wire, and must run at most once all
// the same. Check compares the two sides.
//
// Handlers of another process write to a [File], which outlives a kill.
package ledger
