//go:build linux || darwin

package unixsocket

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/onecall-dev/onecall/discovery"
)

// Supported says that this package works on this platform.
const Supported = true

// checkPath returns an error unless a path is the one that an instance of the user makes.
func checkPath(path string, incarnation discovery.Incarnation, user int) error {
	at := filepath.Dir(path)
	if at != directory(filepath.Dir(at), user) || path != pathOf(at, incarnation) {
		return fmt.Errorf("%s is not the path of a socket that an instance of this user makes, onecall-%d/%s", path, user, incarnation)
	}
	return nil
}

// checkDirectory returns an error unless a directory is the user's, and no other user can
// read or change it.
func checkDirectory(path string, user int) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", path)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%s can be used by other users: its mode is %v, not 0700", path, info.Mode().Perm())
	}
	return checkOwner(path, info, user)
}

// checkOwner returns an error unless a file is the user's.
func checkOwner(path string, info fs.FileInfo, user int) error {
	if owner := int(statOf(info).Uid); owner != user {
		return fmt.Errorf("%s belongs to the user %d, not to %d, as which this process runs", path, owner, user)
	}
	return nil
}

// statOf returns what the system says of a file.
func statOf(info fs.FileInfo) *syscall.Stat_t {
	stat, _ := info.Sys().(*syscall.Stat_t)
	if stat == nil {
		return &syscall.Stat_t{} // it is there on these platforms
	}
	return stat
}

// fileOf returns the File of a [discovery.Socket].
func fileOf(info fs.FileInfo) string {
	stat := statOf(info)
	return fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
}

// checkSocket returns an error unless the file at a path is the socket of an instance, and
// only the user can have made it.
func checkSocket(path, file string, user int) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist here: this process does not see the files of the instance, such as in another container", path)
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is not a socket", path)
	case fileOf(info) != file:
		return fmt.Errorf("%s is another file than the one that the instance registered", path)
	}
	return checkOwner(path, info, user)
}
