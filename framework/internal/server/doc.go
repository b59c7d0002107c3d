// Package server runs a service: it listens, serves what the program registers, registers
// in the registry, and shuts down. Start at [Start]; chain.go has what runs around a
// handler.
package server
