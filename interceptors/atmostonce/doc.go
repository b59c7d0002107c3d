// Package atmostonce has what is on the wire so that the handler of a call starts at
// most once, whatever clients, proxies and networks send again. docs/at-most-once.md
// describes it.
//
// The caller binds each call to one instance, with an identity that is unique to that
// instance: see package client. The server marks each identity before it runs the
// handler, refuses one that it has marked before, and says in a trailer of every
// error reply whether the handler ran: see package server.
package atmostonce
