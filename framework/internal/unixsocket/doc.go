// Package unixsocket connects callers and services of one host and user over unix sockets.
//
// A service listens on a socket in a private directory, onecall-UID, whose name ends with the
// ID of its user. The socket is named after the incarnation of the instance, and the
// registry's entry has its path, the host's boot ID, and the device and inode of the file. A
// caller uses the socket if it is on the same host, and if the file that it finds at the path
// is that file and its user's alone. Otherwise it uses TCP.
package unixsocket

import (
	"path/filepath"
	"strconv"

	"github.com/onecall-dev/onecall/discovery"
)

// directory returns the directory of a user's sockets below base.
func directory(base string, user int) string {
	return filepath.Join(base, "onecall-"+strconv.Itoa(user))
}

// pathOf returns the path of the socket of an instance in a directory.
func pathOf(directory string, incarnation discovery.Incarnation) string {
	return filepath.Join(directory, incarnation.String())
}
