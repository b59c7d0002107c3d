//go:build linux || darwin

package unixsocket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/onecall-dev/onecall/discovery"
)

// longest is how many bytes the path of a socket may have: the system needs one more.
const longest = len(syscall.RawSockaddrUnix{}.Path) - 1

const (
	// lockSuffix is what the name of a lock has after that of its socket.
	lockSuffix = ".lock"
	// attempts is how often the directory is made, until no other process removes it.
	attempts = 100
	// mostSwept is how many files are read of a directory, to sweep it.
	mostSwept = 1000
)

// Listener listens on a socket. Its methods are safe for all goroutines.
type Listener struct {
	*net.UnixListener

	socket discovery.Socket
	lock   *lock
	close  sync.Once
	closed error // of the first Close
}

// Bases returns the directories in which sockets are made by default: the first that works
// is used.
func Bases() []string {
	runtime := os.Getenv("XDG_RUNTIME_DIR")
	if !filepath.IsAbs(runtime) {
		return []string{os.TempDir()}
	}
	return []string{runtime, os.TempDir()}
}

// Listen listens on a socket for an instance, in a directory below the first of the bases
// where that is possible. Before that it removes what processes have left there that have
// ended.
func Listen(ctx context.Context, bases []string, incarnation discovery.Incarnation) (*Listener, error) {
	host, err := hostID()
	if err != nil {
		return nil, fmt.Errorf("the ID of this host cannot be read: %w", err)
	}
	var errs []error
	for _, base := range bases {
		listener, err := listenIn(ctx, base, host, incarnation)
		if err == nil {
			return listener, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func listenIn(ctx context.Context, base, host string, incarnation discovery.Incarnation) (*Listener, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return nil, err
	}
	path := pathOf(directory(base, os.Geteuid()), incarnation)
	if len(path) > longest {
		return nil, fmt.Errorf("the path %s has %d bytes, and that of a socket at most %d: use a directory with a shorter path", path, len(path), longest)
	}
	lock, err := newLock(path)
	if err != nil {
		return nil, err
	}
	listener, file, err := bind(ctx, path)
	if err != nil {
		lock.release()
		return nil, err
	}
	return &Listener{UnixListener: listener, socket: discovery.Socket{Host: host, Path: path, File: file}, lock: lock}, nil
}

// bind listens on a path, and returns the File of the socket.
func bind(ctx context.Context, path string) (*net.UnixListener, string, error) {
	made, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, "", err
	}
	err = os.Chmod(path, 0o600)
	info, wrong := os.Lstat(path)
	listener, ok := made.(*net.UnixListener)
	if err = cmp.Or(err, wrong); err != nil || !ok {
		return nil, "", errors.Join(err, made.Close())
	}
	return listener, fileOf(info), nil
}

// Socket returns the socket, for the registry.
func (l *Listener) Socket() discovery.Socket { return l.socket }

// Close implements [net.Listener]. It removes the socket, and the directory if there is no
// other in it. A second Close returns the same.
func (l *Listener) Close() error {
	l.close.Do(func() {
		l.closed = l.UnixListener.Close() // which removes the socket
		l.lock.release()
	})
	return l.closed
}

// lock says that the process lives that has a socket: the system ends the lock with it.
type lock struct {
	file *os.File
	path string
}

// newLock returns the lock of the socket at path. It makes the directory, and sweeps it.
func newLock(path string) (*lock, error) {
	directory := filepath.Dir(path)
	sweep(directory)
	for range attempts {
		if err := os.Mkdir(directory, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		if err := checkDirectory(directory, os.Geteuid()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // the directory is the user's own, G304
		if errors.Is(err, fs.ErrNotExist) {
			continue // the last process that used the directory has removed it
		}
		if err != nil {
			return nil, err
		}
		made := &lock{file: file, path: path + lockSuffix}
		if err := made.take(path); err != nil {
			return nil, errors.Join(err, os.Remove(path), file.Close())
		}
		return made, nil
	}
	return nil, fmt.Errorf("%s was removed %d times", directory, attempts)
}

// take takes the lock of a file, and then renames it, so that it is held when another process
// finds it to sweep.
func (l *lock) take(from string) error {
	if err := syscall.Flock(int(l.file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return &fs.PathError{Op: "flock", Path: from, Err: err}
	}
	return os.Rename(from, l.path)
}

// release removes the lock and ends it, and removes the directory if it is empty.
func (l *lock) release() {
	_ = os.Remove(l.path) // it may be removed already
	_ = l.file.Close()    // nothing was written
	_ = os.Remove(filepath.Dir(l.path))
}

// sweep removes the sockets in a directory whose processes have ended.
func sweep(directory string) {
	opened, err := os.Open(directory) //nolint:gosec // it is listed, not read, G304
	if err != nil {
		return
	}
	names, _ := opened.Readdirnames(mostSwept)
	_ = opened.Close() // nothing was written
	for _, name := range names {
		if strings.HasSuffix(name, lockSuffix) {
			sweepLock(directory, name)
		}
	}
}

// sweepLock removes a lock and its socket, unless a process holds the lock.
func sweepLock(directory, name string) {
	file, err := os.OpenFile(filepath.Join(directory, name), os.O_RDWR|syscall.O_NOFOLLOW, 0) //nolint:gosec // it is locked, not read, G304
	if err != nil {
		return
	}
	defer func() { _ = file.Close() }() // nothing was written
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return
	}
	socket := strings.TrimSuffix(file.Name(), lockSuffix)
	if info, err := os.Lstat(socket); err == nil && info.Mode().Type() == fs.ModeSocket {
		_ = os.Remove(socket) // another process may have removed it
	}
	_ = os.Remove(file.Name())
}
