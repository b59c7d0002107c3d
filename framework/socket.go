package framework

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/onecall-dev/onecall/framework/internal/client"
	"github.com/onecall-dev/onecall/framework/internal/server"
	"github.com/onecall-dev/onecall/framework/internal/unixsocket"
)

// SocketDir sets the directory in which a service makes its unix socket, an absolute path,
// such as that of a volume that two containers of one pod share. A service on Linux and macOS
// listens on a unix socket besides TCP, which a bus of the same host and user uses because it
// costs less. Everything else is the same: identity, TLS, limits and shutdown.
//
// The socket is in the directory onecall-UID below dir, with the user's ID. Its mode is 0700,
// and the service makes and removes it. The default is $XDG_RUNTIME_DIR or, if there is none
// or it cannot be used, the directory for temporary files; if that cannot be used either, the
// log has a line, and all callers use TCP. With this option that is an error of [Serve]. A
// service with option [Listener] has no socket by default.
//
// A bus uses the socket if it runs on the same host since its last start, and if the file
// that it finds is the socket of that instance and belongs to its own user. Otherwise, or if
// DialOptions has a dialer, it uses TCP.
func SocketDir(dir string) ServeOption {
	return serveOption(func(o *server.Options) error {
		switch {
		case !filepath.IsAbs(dir):
			return fmt.Errorf("option SocketDir: %q is not an absolute path", dir)
		case !unixsocket.Supported:
			return errors.New("option SocketDir: this platform has no unix sockets for services: leave the option out")
		case o.NoSocket:
			return errSockets
		}
		o.SocketDir = dir
		return nil
	})
}

// NoSocket keeps a service from listening on a unix socket, and a bus from using those of
// services: see [SocketDir].
func NoSocket() Option {
	return bothOption{
		serveOption: func(o *server.Options) error {
			if o.SocketDir != "" {
				return errSockets
			}
			o.NoSocket = true
			return nil
		},
		busOption: func(o *client.Options) error {
			o.NoSocket = true
			return nil
		},
	}
}

// errSockets is the error of a service with both options of sockets.
var errSockets = errors.New("options SocketDir and NoSocket: both are given: leave one out")
