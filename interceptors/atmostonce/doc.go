// Package atmostonce keeps the promise that the handler of a call starts at
// most once, whatever clients, proxies and networks resend.
//
// The caller binds each call to one instance and gives it an identity that is
// unique to that instance; the server marks each identity before it runs the
// handler, refuses one that it has marked before, and says in a trailer of
// every error reply whether the handler ran. docs/at-most-once.md describes
// the wire.
package atmostonce
