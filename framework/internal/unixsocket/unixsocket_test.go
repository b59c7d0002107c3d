//go:build linux || darwin

package unixsocket_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/framework/internal/unixsocket"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/grpctest"
	"github.com/onecall-dev/onecall/internal/testlog"
)

// baseEnv is set in a process that listens on a socket until it is killed.
const baseEnv = "ONECALL_TEST_SOCKET_BASE"

func TestMain(m *testing.M) {
	if base := os.Getenv(baseEnv); base != "" {
		listener, err := unixsocket.Listen(context.Background(), []string{base}, discovery.NewIncarnation())
		if err != nil {
			panic(err)
		}
		fmt.Println(listener.Socket().Path)
		select {} // until it is killed
	}
	os.Exit(m.Run())
}

// newBase returns a directory for sockets. Those of tests have too long names on macOS.
func newBase(tb testing.TB) string {
	tb.Helper()
	base, err := os.MkdirTemp("", "oc")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(base) })
	return base
}

// listen listens until the test ends.
func listen(tb testing.TB, base string) (*unixsocket.Listener, discovery.Incarnation) {
	tb.Helper()
	incarnation := discovery.NewIncarnation()
	listener, err := unixsocket.Listen(tb.Context(), []string{base}, incarnation)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = listener.Close() })
	return listener, incarnation
}

// names returns the names of the files in a directory.
func names(tb testing.TB, directory string) (found []string) {
	tb.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil && !os.IsNotExist(err) {
		tb.Fatal(err)
	}
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	return found
}

// instance is a server at a TCP address and on a socket.
type instance struct {
	address     string
	listener    *unixsocket.Listener
	socket      discovery.Socket
	incarnation discovery.Incarnation
}

func newInstance(t *testing.T) *instance {
	t.Helper()
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	listener, incarnation := listen(t, newBase(t))
	at := &instance{address: grpctest.Loopback(t, server), listener: listener, socket: listener.Socket(), incarnation: incarnation}
	go func() { _ = server.Serve(listener) }() // it ends with the server, or when a test closes the listener
	return at
}

// calls returns over which network calls on new connections of a dialer arrive.
func (i *instance) calls(t *testing.T, dialer *unixsocket.Dialer, times int) (networks []string) {
	t.Helper()
	for range times {
		builder := manual.NewBuilderWithScheme("test")
		builder.InitialState(resolver.State{Addresses: []resolver.Address{dialer.Attach(resolver.Address{Addr: i.address}, i.socket, i.incarnation)}})
		conn, err := grpc.NewClient("test:///x", grpc.WithResolvers(builder), grpc.WithContextDialer(dialer.Dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		var from peer.Peer
		_, err = grpc_health_v1.NewHealthClient(conn).Check(eventually.Context(t), &grpc_health_v1.HealthCheckRequest{}, grpc.Peer(&from))
		_ = conn.Close()
		if err != nil {
			t.Fatal(err)
		}
		networks = append(networks, from.Addr.Network())
	}
	return networks
}

func TestACallerOnTheHostUsesTheSocket(t *testing.T) {
	t.Parallel()
	log := new(testlog.Log)
	if got := newInstance(t).calls(t, unixsocket.NewDialer(log.Logger()), 2); fmt.Sprint(got) != "[unix unix]" || log.String() != "" {
		t.Errorf("calls arrived over %v, want the socket; the log says:\n%s", got, log)
	}
}

// TestASocketThatIsNotProvenIsNotUsed has what may be at the path of a socket instead.
func TestASocketThatIsNotProvenIsNotUsed(t *testing.T) {
	t.Parallel()
	other := func(t *testing.T, path string) { // a socket of another process at the path
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		made, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = made.Close() })
	}
	for name, test := range map[string]struct {
		change func(t *testing.T, i *instance)
		log    string // "" says that there is no line
	}{
		"another host": {func(_ *testing.T, i *instance) { i.socket.Host = "another" }, ""},
		"no socket":    {func(_ *testing.T, i *instance) { i.socket = discovery.Socket{} }, ""},
		"no file": {func(t *testing.T, i *instance) {
			t.Helper()
			if err := os.Remove(i.socket.Path); err != nil {
				t.Fatal(err)
			}
		}, "does not exist here"},
		"no directory": {func(t *testing.T, i *instance) {
			t.Helper()
			if err := os.RemoveAll(filepath.Dir(i.socket.Path)); err != nil {
				t.Fatal(err)
			}
		}, "does not exist here"},
		"another file": {func(t *testing.T, i *instance) {
			t.Helper()
			other(t, i.socket.Path)
		}, "is another file than the one that the instance registered"},
		"another device": {func(_ *testing.T, i *instance) { i.socket.File = "1" + i.socket.File }, "is another file"},
		"no socket at the path": {func(t *testing.T, i *instance) {
			t.Helper()
			if err := os.Remove(i.socket.Path); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(i.socket.Path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket"},
		"a link to the socket": {func(t *testing.T, i *instance) {
			t.Helper()
			if err := os.Rename(i.socket.Path, i.socket.Path+"x"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(i.socket.Path+"x", i.socket.Path); err != nil {
				t.Fatal(err)
			}
		}, "is not a socket"},
		"a directory for others": {func(t *testing.T, i *instance) {
			t.Helper()
			if err := os.Chmod(filepath.Dir(i.socket.Path), 0o711); err != nil {
				t.Fatal(err)
			}
		}, "can be used by other users"},
		"a link to the directory": {func(t *testing.T, i *instance) {
			t.Helper()
			at := filepath.Dir(i.socket.Path)
			if err := os.Rename(at, at+"x"); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(at+"x", at); err != nil {
				t.Fatal(err)
			}
		}, "is not a directory"},
		"the path of another instance": {func(_ *testing.T, i *instance) { i.incarnation = discovery.NewIncarnation() }, "is not the path of a socket that an instance of this user makes"},
		"the directory of another user": {func(t *testing.T, i *instance) {
			t.Helper()
			at := filepath.Dir(i.socket.Path)
			if err := os.Rename(at, at+"7"); err != nil {
				t.Fatal(err)
			}
			i.socket.Path = filepath.Join(at+"7", filepath.Base(i.socket.Path))
		}, "is not the path of a socket that an instance of this user makes"},
		"a socket of another user": {func(t *testing.T, i *instance) {
			t.Helper()
			giveAway(t, i.socket.Path)
		}, "belongs to the user 12345"},
		"a directory of another user": {func(t *testing.T, i *instance) {
			t.Helper()
			giveAway(t, filepath.Dir(i.socket.Path))
		}, "belongs to the user 12345"},
		"a process that has ended": {func(t *testing.T, i *instance) {
			t.Helper()
			i.listener.SetUnlinkOnClose(false)
			if err := i.listener.UnixListener.Close(); err != nil {
				t.Fatal(err)
			}
		}, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := new(testlog.Log)
			at := newInstance(t)
			test.change(t, at)
			if got := at.calls(t, unixsocket.NewDialer(log.Logger()), 3); fmt.Sprint(got) != "[tcp tcp tcp]" {
				t.Errorf("calls arrived over %v, want TCP", got)
			}
			lines := 0
			if test.log != "" {
				lines = 1
			}
			if strings.Count(log.String(), "\n") != lines || log.Count(test.log) == 0 || lines == 1 && log.Count(at.address) != 1 {
				t.Errorf("the log says %q, want %d lines with %q and the address", log, lines, test.log)
			}
		})
	}
}

// giveAway makes a file another user's, if this process may.
func giveAway(t *testing.T, path string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root may give files away: TestOnlyFilesOfTheUserAreTaken has the same check")
	}
	if err := os.Chown(path, 12345, -1); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyFilesOfTheUserAreTaken(t *testing.T) {
	t.Parallel()
	listener, _ := listen(t, newBase(t))
	socket := listener.Socket()
	for user, want := range map[int]bool{os.Geteuid(): true, os.Geteuid() + 1: false} {
		if err := unixsocket.CheckSocket(socket.Path, socket.File, user); (err == nil) != want {
			t.Errorf("the socket for the user %d: %v, want it taken: %v", user, err, want)
		}
		if err := unixsocket.CheckDirectory(filepath.Dir(socket.Path), user); (err == nil) != want {
			t.Errorf("the directory for the user %d: %v, want it taken: %v", user, err, want)
		}
	}
}

func TestASocketIsTheUsersAloneAndGoesWithItsService(t *testing.T) {
	t.Parallel()
	base := newBase(t)
	listener, incarnation := listen(t, base)
	socket := listener.Socket()
	directory := filepath.Join(base, fmt.Sprintf("onecall-%d", os.Geteuid()))
	if socket.Path != filepath.Join(directory, incarnation.String()) || socket.Host == "" || !socket.Valid() {
		t.Errorf("the socket is %+v", socket)
	}
	for path, want := range map[string]os.FileMode{directory: os.ModeDir | 0o700, socket.Path: os.ModeSocket | 0o600} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s is %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	second, _ := listen(t, base)
	if err := listener.Close(); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("unix", second.Socket().Path); err != nil {
		t.Errorf("after the end of another service: %v", err)
	} else {
		_ = conn.Close()
	}
	if err := second.Close(); err != nil {
		t.Error(err)
	}
	if left := names(t, base); len(left) > 0 {
		t.Errorf("the last service has left %v", left)
	}
	if err := second.Close(); err != nil {
		t.Errorf("the second Close = %v", err)
	}
}

// TestTheSocketOfAKilledProcessIsRemovedByTheNext also has a process that lives.
func TestTheSocketOfAKilledProcessIsRemovedByTheNext(t *testing.T) {
	t.Parallel()
	base := newBase(t)
	start := func() (*exec.Cmd, string) {
		command := exec.CommandContext(t.Context(), os.Args[0])
		command.Env = append(os.Environ(), baseEnv+"="+base)
		output, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		var path string
		if _, err := fmt.Fscanln(output, &path); err != nil {
			t.Fatal(err)
		}
		return command, path
	}
	dead, stale := start()
	_, live := start()
	if err := dead.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = dead.Wait() // it was killed
	own := filepath.Join(filepath.Dir(live), "of another program")
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(stale); err != nil {
		t.Fatalf("a killed process leaves its socket: %v", err)
	}
	next, _ := listen(t, base)
	left := strings.Join(names(t, filepath.Dir(live)), " ")
	if strings.Contains(left, filepath.Base(stale)) {
		t.Errorf("after the next start there are %s, with the socket or the lock of the killed process", left)
	}
	for _, path := range []string{live, next.Socket().Path, own} {
		if !strings.Contains(left, filepath.Base(path)) {
			t.Errorf("after the next start there are %s, without %s", left, path)
		}
	}
	if conn, err := net.Dial("unix", live); err != nil {
		t.Errorf("the socket of a process that lives: %v", err)
	} else {
		_ = conn.Close()
	}
}

// TestStartsAndEndsAtOnceKeepEachOthersSockets has services that sweep, and remove the
// directory, while others begin to listen.
func TestStartsAndEndsAtOnceKeepEachOthersSockets(t *testing.T) {
	t.Parallel()
	base := newBase(t)
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 50 {
				listener, err := unixsocket.Listen(t.Context(), []string{base}, discovery.NewIncarnation())
				if err != nil {
					t.Error(err)
					return
				}
				conn, err := net.Dial("unix", listener.Socket().Path)
				if err != nil {
					t.Error(err)
				} else {
					_ = conn.Close()
				}
				if err := listener.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	if left := names(t, base); len(left) > 0 {
		t.Errorf("the last service has left %v", left)
	}
}

func TestWhereNoSocketCanBeAnotherDirectoryIsTriedAndTheErrorSaysWhy(t *testing.T) {
	t.Parallel()
	base := newBase(t)
	long := filepath.Join(base, strings.Repeat("a", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, open := filepath.Join(base, "taken"), filepath.Join(base, "open")
	own := fmt.Sprintf("onecall-%d", os.Geteuid())
	for _, path := range []string{taken, open} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(taken, own), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(open, own), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ base, want string }{
		"a long path":                 {long, "that of a socket at most"},
		"no directory":                {filepath.Join(base, "none"), "no such file or directory"},
		"a file":                      {file, "not a directory"},
		"a file with the name":        {taken, "is not a directory"},
		"a directory for other users": {open, "can be used by other users"},
		"a read-only file system":     {"/proc", "/proc/" + own},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := unixsocket.Listen(t.Context(), []string{test.base}, discovery.NewIncarnation()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Listen = %v, want an error that says %q", err, test.want)
			}
			next := newBase(t)
			listener, err := unixsocket.Listen(t.Context(), []string{test.base, next}, discovery.NewIncarnation())
			if err != nil || !strings.HasPrefix(listener.Socket().Path, next) {
				t.Fatalf("with another directory = %v", err)
			}
			_ = listener.Close()
		})
	}
}

func TestAUsedSocketIsKnownWhenTheRegistryHasForgottenIt(t *testing.T) {
	t.Parallel()
	dialer := unixsocket.NewDialer(new(testlog.Log).Logger())
	at := newInstance(t)
	address := resolver.Address{Addr: at.address}
	if got := dialer.AttachUsed(address, at.incarnation); !got.Equal(address) {
		t.Errorf("before it is used: %v", got)
	}
	at.calls(t, dialer, 1)
	if got, want := dialer.AttachUsed(address, at.incarnation), dialer.Attach(address, at.socket, at.incarnation); !got.Equal(want) || want.Equal(address) {
		t.Errorf("after it was used: %v, want %v", got, want)
	}
	if got := dialer.AttachUsed(address, discovery.NewIncarnation()); !got.Equal(address) {
		t.Errorf("another instance: %v", got)
	}
}
