// Package peer is a scripted HTTP/2 server that speaks just enough gRPC to break its
// rules. It answers, refuses, resets, sends GOAWAY, closes or stays silent at any
// point of a call, before or after it has "executed" the call.
//
// It works on frames, so that no layer between the script and the wire corrects what
// the script does wrong. It counts what arrived: each stream is a request. Messages
// must be small, because it ignores the client's flow control.
package peer
