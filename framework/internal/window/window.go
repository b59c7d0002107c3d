// Package window sets how much data of HTTP/2 may be under way before it is read.
//
// By itself grpc-go measures the network and makes the windows larger. For that it sends a
// ping when a message arrives and no earlier ping is under way, and the other side answers
// it. A window that does not change needs no pings.
package window

import "google.golang.org/grpc"

// The window of a stream, in bytes. Default holds one message of the largest size by
// default. Least is the smallest one of grpc-go.
const (
	Default = 4 << 20
	Least   = 64 << 10
	Most    = connection
)

// connection is the window of a connection. It is the largest to which grpc-go makes one by
// itself. It takes no memory: grpc-go counts data as read by the connection when it has
// arrived, and as read by the stream when the program has read it.
const connection = 16 << 20

// ServerOptions sets the window of each stream of a server, in bytes. 0 has grpc-go measure
// the network.
func ServerOptions(size int32) []grpc.ServerOption {
	if size == 0 {
		return nil
	}
	return []grpc.ServerOption{grpc.InitialWindowSize(size), grpc.InitialConnWindowSize(connection)}
}

// DialOptions is [ServerOptions] for a client.
func DialOptions(size int32) []grpc.DialOption {
	if size == 0 {
		return nil
	}
	return []grpc.DialOption{grpc.WithInitialWindowSize(size), grpc.WithInitialConnWindowSize(connection)}
}
