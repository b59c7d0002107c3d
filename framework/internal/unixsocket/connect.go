//go:build linux || darwin

package unixsocket

import (
	"context"
	"net"
	"os"
	"path/filepath"
)

// dial connects to a socket, if it is the instance's. A socket in the user's own directory
// cannot be replaced by another user between the check and the connection.
func (l local) dial(ctx context.Context) (net.Conn, error) {
	user, path := os.Geteuid(), l.socket.Path
	if err := checkPath(path, l.incarnation, user); err != nil {
		return nil, err
	}
	if err := checkSocket(path, l.socket.File, user); err != nil {
		return nil, err
	}
	if err := checkDirectory(filepath.Dir(path), user); err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, "unix", path)
}
