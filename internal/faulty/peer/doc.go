// Package peer is a scripted HTTP/2 server that speaks just enough gRPC to
// break its rules: it answers, refuses, resets, says GOAWAY, closes or stays
// silent at any point of a call, before or after it has "executed" it.
//
// It works on frames, so nothing between the script and the wire mends what the
// script breaks, and it counts what truly arrived: each stream is a request.
// Messages are small: it heeds no flow control of its caller's.
package peer
