// Package client is the caller's half of "at most once". It binds each attempt of a
// call to the instance that is picked, with an identity of its own, and reports what
// became of it.
package client
