// Package client is the caller's half of "at most once": it gives each attempt of
// a call an identity, binds it to the instance that is picked, and reports what
// became of it.
package client
