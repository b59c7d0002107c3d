// Package inprocess makes calls between the two ends of a connection that are in one
// process, without the network.
//
// A caller sends an [Offer] over each of its connections. If the server at the other end is
// in the same process and nothing is in between, both get to know each other, and the caller
// has a [Link]. A call over it does what grpc-go does over the connection: the server runs
// the same interceptors and handler, with the values that contexts of calls on the
// connection have. Messages are encoded and decoded, so that no end shares memory with the
// other, and so that a message that cannot be sent cannot be sent here either. What the
// link cannot do as the network does, it leaves to the network.
package inprocess
