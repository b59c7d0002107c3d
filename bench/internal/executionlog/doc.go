// Package executionlog counts how often the handlers of calls ran, and compares that with
// the outcomes that the callers received.
//
// A handler records that it runs before it does anything else. A caller records the
// outcome of each call at its end. Both name the call by an id in the request
// message: a call may have several attempts, each with another identity on the wire,
// and must run at most once all the same. Check compares the two sides.
//
// Handlers of another process write to a [File], which outlives a kill.
package executionlog
