//go:build linux || darwin

package unixsocket

// What tests check with other users.
var (
	CheckSocket    = checkSocket
	CheckDirectory = checkDirectory
)
