package framework_test

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/internal/unixsocket"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/faulty/wire"
	"github.com/onecall-dev/onecall/internal/fixedport"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// socketDir returns a directory for sockets. Those of tests have too long names on macOS.
func socketDir(t *testing.T) string {
	t.Helper()
	if !unixsocket.Supported {
		t.Skip("this platform has no unix sockets for services")
	}
	dir, err := os.MkdirTemp("", "oc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// onlySocket returns options of a service that is reached over its socket alone: nothing
// listens at the address with which it is registered.
func onlySocket(t *testing.T) []framework.ServeOption {
	t.Helper()
	return []framework.ServeOption{framework.SocketDir(socketDir(t)), framework.AdvertiseAs(fixedport.Address(t))}
}

// serveSocketBehind is serveBehind for a service that is called over its socket.
func serveSocketBehind(t *testing.T, registry *memory.Registry, e *echo, options ...framework.ServeOption) *wire.Proxy {
	t.Helper()
	proxy, _ := serveSocketBehindAs(t, registry, e, new(service), options...)
	return proxy
}

// serveSocketBehindAs is serveSocketBehind for a service that the test can stop. leave
// removes it from the registry.
func serveSocketBehindAs(t *testing.T, registry *memory.Registry, e *echo, running *service, options ...framework.ServeOption) (proxy *wire.Proxy, leave func()) {
	t.Helper()
	own := memory.New()
	*running = serve(t, own, e, append(onlySocket(t), options...)...)
	instance := serving(t, own, 1)[0]
	listener, err := unixsocket.Listen(t.Context(), []string{socketDir(t)}, instance.Incarnation)
	if err != nil {
		t.Fatal(err)
	}
	proxy = wire.StartOn(t, listener)
	proxy.Forward(instance.Socket.Path)
	instance.Socket = listener.Socket()
	registration := discoverytest.Register(t, registry, instance)
	return proxy, func() { discoverytest.Close(t, registration) }
}

// networks are those over which calls arrived.
type networks struct {
	mu   sync.Mutex // guards the field below
	seen []string
}

// note is a handler's part, and an interceptor's.
func (n *networks) note(ctx context.Context) {
	from, _ := peer.FromContext(ctx)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = append(n.seen, from.Addr.Network())
}

// option notes the calls of a service.
func (n *networks) option() framework.ServeOption {
	return framework.BeforeAdmission(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			n.note(ctx)
			return handler(ctx, req)
		},
		func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			n.note(stream.Context())
			return handler(srv, stream)
		})
}

// take returns them without duplicates, separated by spaces, and forgets them.
func (n *networks) take() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	seen := n.seen
	n.seen = nil
	var each []string
	for _, network := range seen {
		if !strings.Contains(strings.Join(each, " "), network) {
			each = append(each, network)
		}
	}
	return strings.Join(each, " ")
}

func TestEveryShapeRunsOverTheSocket(t *testing.T) {
	t.Parallel()
	authority := certtest.NewAuthority(t)
	for security, options := range map[string][2][]framework.Option{
		"plain text": {},
		"TLS": {
			{withTLS(named(t, authority, "test.echo", "onecall.test.v1.PlainService"))},
			{withTLS(named(t, authority, "shop"))},
		},
	} {
		t.Run(security, func(t *testing.T) {
			t.Parallel()
			registry, seen := memory.New(), new(networks)
			given := append(onlySocket(t), seen.option())
			var bus []framework.BusOption
			for _, option := range options[0] {
				given = append(given, option)
			}
			for _, option := range options[1] {
				bus = append(bus, option)
			}
			var principal atomic.Value
			serve(t, registry, &echo{ping: func(ctx context.Context, text string) (string, error) {
				principal.Store(framework.PrincipalOf(ctx))
				return text, nil
			}, watch: func(stream testv1.EchoService_WatchServer) error { return stream.Send(&testv1.WatchResponse{}) }}, given...)
			calling, conn := newBus(t, registry, bus...), dial(t, registry, bus...)
			ready(t, calling, "test.echo", "onecall.test.v1.PlainService")
			for shape, call := range shapes {
				if err := call(t.Context(), calling, conn); err != nil && !strings.HasSuffix(err.Error(), "EOF") {
					t.Errorf("%s: %v", shape, err)
				}
			}
			if _, err := testv1.NewPlainServiceClient(calling).Ping(t.Context(), &testv1.PingRequest{}); err != nil {
				t.Error(err)
			}
			if got := seen.take(); got != "unix" {
				t.Errorf("calls arrived over %q, want the socket", got)
			}
			if want := map[string]string{"plain text": "", "TLS": "shop"}[security]; principal.Load() != want {
				t.Errorf("the principal is %q, want %q", principal.Load(), want)
			}
		})
	}
}

// TestTheNameInTheCertificateIsCheckedOverTheSocketToo has a service with the certificate of
// another API.
func TestTheNameInTheCertificateIsCheckedOverTheSocketToo(t *testing.T) {
	t.Parallel()
	authority, registry := certtest.NewAuthority(t), memory.New()
	serve(t, registry, &echo{}, append(onlySocket(t), withTLS(named(t, authority, "auth")))...)
	serving(t, registry, 1)
	bus := newBus(t, registry, withTLS(named(t, authority, "shop")))
	const want = "certificate is valid for auth, not test.echo"
	if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("the call = %v, want an error that says %q", err, want)
	}
}

// TestTheSocketIsUsedUnlessAnOptionOrADialerForbids also has the entry that others read.
func TestTheSocketIsUsedUnlessAnOptionOrADialerForbids(t *testing.T) {
	t.Parallel()
	dialer := framework.DialOptions(grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}))
	own := func() framework.ServeOption {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return framework.Listener(listener)
	}
	for name, test := range map[string]struct {
		serve []framework.ServeOption
		bus   []framework.BusOption
		want  string
		none  bool // whether the entry has no socket
	}{
		"by default":                 {want: "unix"},
		"a directory":                {serve: []framework.ServeOption{framework.SocketDir(socketDir(t))}, want: "unix"},
		"a dialer of the program":    {bus: []framework.BusOption{dialer}, want: "tcp"},
		"a bus without sockets":      {bus: []framework.BusOption{framework.NoSocket()}, want: "tcp"},
		"a service without a socket": {serve: []framework.ServeOption{framework.NoSocket()}, want: "tcp", none: true},
		"a listener of the program":  {serve: []framework.ServeOption{own()}, want: "tcp", none: true},
		"a listener and a directory": {serve: []framework.ServeOption{own(), framework.SocketDir(socketDir(t))}, want: "unix"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry, seen, log := memory.New(), new(networks), new(testlog.Log)
			serve(t, registry, &echo{}, append(test.serve, seen.option(), framework.Logger(log.Logger()))...)
			instance := serving(t, registry, 1)[0]
			if (instance.Socket == discovery.Socket{}) != test.none || !strings.HasPrefix(instance.Address, "127.0.0.1:") {
				t.Errorf("the instance is %+v", instance)
			}
			bus := newBus(t, registry, append(test.bus, framework.Logger(log.Logger()))...)
			if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
				t.Fatal(err)
			}
			if got := seen.take(); got != test.want {
				t.Errorf("a call arrived over %q, want %q", got, test.want)
			}
			if _, err := testv1.NewEchoServiceClient(dialled(t, instance.Address)).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
				t.Errorf("a plain client = %v", err)
			}
			if got := seen.take(); got != "tcp" {
				t.Errorf("the call of a plain client arrived over %q", got)
			}
			if log.Count("socket") != 0 {
				t.Errorf("the log says\n%s", log)
			}
		})
	}
}

func TestBadOptionsOfSocketsAreErrors(t *testing.T) {
	t.Parallel()
	base := socketDir(t)
	const both = "options SocketDir and NoSocket: both are given"
	for name, test := range map[string]struct {
		options []framework.ServeOption
		want    string
	}{
		"a relative path":  {[]framework.ServeOption{framework.SocketDir("run")}, `option SocketDir: "run" is not an absolute path`},
		"no path":          {[]framework.ServeOption{framework.SocketDir("")}, `option SocketDir: "" is not an absolute path`},
		"no directory":     {[]framework.ServeOption{framework.SocketDir(filepath.Join(base, "none"))}, "option SocketDir: cannot listen there"},
		"both":             {[]framework.ServeOption{framework.SocketDir(base), framework.NoSocket()}, both},
		"both, vice versa": {[]framework.ServeOption{framework.NoSocket(), framework.SocketDir(base)}, both},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, append(test.options, quiet)...); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Serve = %v, want an error that says %q", err, test.want)
			}
		})
	}
}

// TestWithoutADirectoryForItsSocketAServiceServesOverTCP has directories for temporary files
// in which there can be no socket.
func TestWithoutADirectoryForItsSocketAServiceServesOverTCP(t *testing.T) { //nolint:paralleltest // it sets variables of the environment
	base := socketDir(t)
	long := filepath.Join(base, strings.Repeat("a", 100))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ temporary, runtime, want string }{
		"a long path":          {long, "", "that of a socket at most"},
		"none":                 {filepath.Join(base, "none"), "", "no such file or directory"},
		"no runtime directory": {base, filepath.Join(base, "none"), ""},
		"a relative one":       {base, "none", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", test.temporary)
			t.Setenv("XDG_RUNTIME_DIR", test.runtime)
			registry, seen, log := memory.New(), new(networks), new(testlog.Log)
			serve(t, registry, &echo{}, seen.option(), framework.Logger(log.Logger()))
			if _, err := testv1.NewEchoServiceClient(newBus(t, registry)).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}, grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
			network, lines := "unix", 0
			if test.want != "" {
				network, lines = "tcp", 1
			}
			if got := seen.take(); got != network || log.Count("there is no unix socket") != lines || log.Count(test.want) == 0 {
				t.Errorf("a call arrived over %q, want %q; the log says\n%s", got, network, log)
			}
		})
	}
}

// TestASocketThatIsGoneIsLoggedOnce has a file that was removed, and connections that end.
func TestASocketThatIsGoneIsLoggedOnce(t *testing.T) {
	t.Parallel()
	registry, seen, log := memory.New(), new(networks), new(testlog.Log)
	serve(t, registry, &echo{}, framework.SocketDir(socketDir(t)), seen.option(), framework.MaxConnectionAge(10*time.Millisecond, 0))
	if err := os.Remove(serving(t, registry, 1)[0].Socket.Path); err != nil {
		t.Fatal(err)
	}
	bus := newBus(t, registry, framework.Logger(log.Logger()))
	var before string
	for connections := 0; connections < 3; { // by the port of the caller
		var from peer.Peer
		if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}, grpc.Peer(&from)); err != nil {
			t.Fatal(err)
		}
		if now := from.LocalAddr.String(); now != before {
			before = now
			connections++
		}
	}
	if got := seen.take(); got != "tcp" || log.Count("because its unix socket cannot be used") != 1 {
		t.Errorf("calls arrived over %q; the log says\n%s", got, log)
	}
}

// TestTwoServicesOfAProcessHaveTheirOwnSockets ends one of them.
func TestTwoServicesOfAProcessHaveTheirOwnSockets(t *testing.T) {
	t.Parallel()
	base := socketDir(t)
	registry, seen := memory.New(), new(networks)
	options := func() []framework.ServeOption {
		return []framework.ServeOption{framework.SocketDir(base), framework.AdvertiseAs(fixedport.Address(t)), seen.option()}
	}
	first := serve(t, registry, &echo{}, options()...)
	serve(t, registry, &echo{}, options()...)
	both := serving(t, registry, 2)
	bus := newBus(t, registry, framework.LoadBalancing("round_robin", ""))
	ready(t, bus, "test.echo")
	call := func() {
		t.Helper()
		for range 10 {
			if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	call()
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	left := serving(t, registry, 1)[0].Socket
	call()
	for _, instance := range both {
		_, err := os.Lstat(instance.Socket.Path)
		if (err == nil) != (instance.Socket == left) {
			t.Errorf("the socket of %s: %v", instance.Address, err)
		}
	}
	if got := seen.take(); got != "unix" {
		t.Errorf("calls arrived over %q", got)
	}
}

// TestAnInstanceThatRestartsAtItsAddressHasAnotherSocket restarts a service.
func TestAnInstanceThatRestartsAtItsAddressHasAnotherSocket(t *testing.T) {
	t.Parallel()
	registry, seen, log := memory.New(), new(networks), new(testlog.Log)
	options := append(onlySocket(t), seen.option())
	bus := newBus(t, registry, framework.Logger(log.Logger()))
	var paths []string
	for range 3 {
		running := serve(t, registry, &echo{}, options...)
		paths = append(paths, serving(t, registry, 1)[0].Socket.Path)
		ready(t, bus, "test.echo")
		if _, err := testv1.NewEchoServiceClient(bus).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
			t.Fatal(err)
		}
		if err := running.stop(); err != nil {
			t.Fatal(err)
		}
		serving(t, registry, 0)
	}
	if paths[0] == paths[1] || paths[1] == paths[2] {
		t.Errorf("the sockets are %v", paths)
	}
	for _, path := range paths {
		if _, err := os.Lstat(filepath.Dir(path)); !os.IsNotExist(err) {
			t.Errorf("a service has left %s: %v", filepath.Dir(path), err)
		}
	}
	if got := seen.take(); got != "unix" || log.Count("unix socket") != 0 {
		t.Errorf("calls arrived over %q; the log says\n%s", got, log)
	}
}

// TestAServiceThatCannotStartLeavesNoSocket has a registry that refuses it.
func TestAServiceThatCannotStartLeavesNoSocket(t *testing.T) {
	t.Parallel()
	base := socketDir(t)
	err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, quiet, framework.SocketDir(base), framework.AdvertiseAs("0.0.0.0:1"))
	if err == nil {
		t.Fatal("it was served")
	}
	if left, err := os.ReadDir(base); err != nil || len(left) > 0 {
		t.Errorf("it has left %v, %v", left, err)
	}
}

// TestAPeerOnASocketCountsAsLoopback has a limit of one connection for each host.
func TestAPeerOnASocketCountsAsLoopback(t *testing.T) {
	t.Parallel()
	registry, log := memory.New(), new(testlog.Log)
	serve(t, registry, &echo{}, framework.SocketDir(socketDir(t)), framework.MaxConnections(10, 1), framework.Logger(log.Logger()))
	first := newBus(t, registry)
	ready(t, first, "test.echo")
	_, err := testv1.NewEchoServiceClient(newBus(t, registry)).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
	if err == nil || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a second connection on the socket = %v, want none", err)
	}
	_, err = testv1.NewEchoServiceClient(newBus(t, registry, framework.NoSocket())).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
	if err == nil || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a second connection over TCP = %v, want none", err)
	}
	const want = "a host has as many connections as it may"
	if log.Count(want) != 1 || log.Count("host=127.0.0.1") != 1 {
		t.Errorf("the log says\n%s", log)
	}
}

func TestTheEnvironmentSaysWhereTheSocketIs(t *testing.T) { //nolint:paralleltest // it sets variables of the environment
	base := socketDir(t)
	for name, test := range map[string]struct {
		env  map[string]string
		own  []framework.ServeOption
		want string // the network of a call
	}{
		"a directory":                  {map[string]string{"ONECALL_SOCKET_DIR": base}, nil, "unix"},
		"none":                         {map[string]string{"ONECALL_NO_SOCKET": "true"}, nil, "tcp"},
		"a directory, none in code":    {map[string]string{"ONECALL_SOCKET_DIR": base}, []framework.ServeOption{framework.NoSocket()}, "tcp"},
		"none, a directory in code":    {map[string]string{"ONECALL_NO_SOCKET": "true"}, []framework.ServeOption{framework.SocketDir(base)}, "tcp"}, // for the bus reads it too
		"another, a directory in code": {map[string]string{"ONECALL_SOCKET_DIR": "/no/such/directory"}, []framework.ServeOption{framework.SocketDir(base)}, "unix"},
	} {
		t.Run(name, func(t *testing.T) {
			setEnv(t, test.env)
			registry, seen := memory.New(), new(networks)
			serve(t, registry, &echo{}, append(test.own, framework.FromEnv(), seen.option())...)
			socket := serving(t, registry, 1)[0].Socket
			if len(test.own) > 0 && (socket == discovery.Socket{}) != (name == "a directory, none in code") || test.want == "unix" && !strings.HasPrefix(socket.Path, base) {
				t.Errorf("the socket is %+v", socket)
			}
			if _, err := testv1.NewEchoServiceClient(newBus(t, registry, framework.FromEnv())).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil {
				t.Fatal(err)
			}
			if got := seen.take(); got != test.want {
				t.Errorf("a call arrived over %q, want %q", got, test.want)
			}
		})
	}
	setEnv(t, map[string]string{"ONECALL_SOCKET_DIR": "run"})
	const want = `option FromEnv: variable ONECALL_SOCKET_DIR: option SocketDir: "run" is not an absolute path`
	if err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, framework.FromEnv(), quiet); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("Serve = %v, want %q", err, want)
	}
}

// TestASocketIsNotTheNetwork has a service that other machines reach in plain text, and buses
// that must not speak it with them.
func TestASocketIsNotTheNetwork(t *testing.T) {
	t.Parallel()
	registry, seen := memory.New(), new(networks)
	serve(t, registry, &echo{}, framework.SocketDir(socketDir(t)), framework.ListenOn(":0"), framework.Insecure(), seen.option())
	address := serving(t, registry, 1)[0].Address
	if strings.HasPrefix(address, "127.") {
		t.Skip("this machine has no address but loopback")
	}
	if _, err := testv1.NewEchoServiceClient(newBus(t, registry)).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err != nil || seen.take() != "unix" {
		t.Errorf("over the socket = %v", err)
	}
	const want = "its address is not loopback, and the bus speaks plain text"
	if _, err := testv1.NewEchoServiceClient(newBus(t, registry, framework.NoSocket())).EchoSoon(t.Context(), &testv1.EchoSoonRequest{}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("over TCP = %v, want an error that says %q", err, want)
	}
}
