// Package proxy is an L7 proxy in front of several backends that does to calls
// what proxies do: it replays them, at once or later, to the same or to another
// instance, and retries them like a mesh, on another host. It records all of it.
//
// Replays and retries are of unary calls; streams are passed through.
package proxy
