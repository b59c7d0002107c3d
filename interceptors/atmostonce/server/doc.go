// Package server is the server's half of "at most once": it admits each identity
// once, and reports in a trailer of every error reply whether the handler ran.
package server
