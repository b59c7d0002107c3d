package main_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/examples/auth"
	"github.com/onecall-dev/onecall/examples/auth/accounts"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// binary is the command, built once, and shared the etcd of all tests that leave it alone.
var (
	binary string
	shared *embed.Server
	// user are the variables of the user who runs the command: folders of their own, but the
	// go command's as they are.
	user []string
)

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "onecall-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "onecall")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the command: %v\n%s", err, out)
		return 1
	}
	user = []string{"HOME=" + filepath.Join(dir, "home")}
	for _, name := range []string{"GOCACHE", "GOENV", "GOMODCACHE", "GOPATH"} {
		value, err := exec.Command("go", "env", name).Output()
		if err != nil {
			fmt.Fprintf(os.Stderr, "go env %s: %v\n", name, err)
			return 1
		}
		user = append(user, name+"="+strings.TrimSpace(string(value)))
	}
	if shared, err = embed.Start(context.Background(), embed.Config{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer shared.Close()
	return m.Run()
}

// place is a namespace in an etcd.
type place struct{ endpoint, namespace string }

// env returns the variables of the place.
func (p place) env(more ...string) []string {
	return append([]string{"ONECALL_ETCD_ENDPOINTS=" + p.endpoint, "ONECALL_ETCD_NAMESPACE=" + p.namespace}, more...)
}

// result is what a run of the command left.
type result struct {
	out, errs string
	code      int
}

// environment returns that of a command, with the variables that are set here, no others of
// the framework, and folders of its own for the user.
func environment(set ...string) []string {
	var out []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "ONECALL_") && !strings.HasPrefix(variable, "XDG_") {
			out = append(out, variable)
		}
	}
	return append(append(out, user...), set...) // the last of a name counts
}

// run runs the command with an etcd.
func run(t *testing.T, at place, stdin string, args ...string) result {
	t.Helper()
	return runWith(t, at.env(), stdin, args...)
}

// runWith runs the command with variables.
func runWith(t *testing.T, env []string, stdin string, args ...string) result {
	t.Helper()
	command := exec.CommandContext(eventually.Context(t), binary, args...)
	command.Env = environment(env...)
	return finish(t, command, stdin)
}

// inGo are words of errors that help in Go programs alone.
var inGo = regexp.MustCompile(`framework\.|bus\.Call|Bus\.|options? [A-Z][a-z]|DialOptions|ServerOptions|AdvertiseAs|with Ready|CAFile|CertFile|Config\.|generated client`)

func finish(t *testing.T, command *exec.Cmd, stdin string) result {
	t.Helper()
	var out, errs bytes.Buffer
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(stdin), &out, &errs
	err := command.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	if found := inGo.FindString(errs.String()); found != "" {
		t.Errorf("onecall %q says %q, which is for Go programs: %s", command.Args[1:], found, errs.String())
	}
	return result{out.String(), errs.String(), command.ProcessState.ExitCode()}
}

// What differs from run to run, and what it is replaced by.
var variable = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "TIME"},
	{regexp.MustCompile(`\b[A-Za-z0-9_-]{22}\b`), "RANDOM"},
	{regexp.MustCompile(`(illis"?: ?)[0-9.]+`), "${1}N"},
	{regexp.MustCompile(`\b\d+(\.\d+)?(ms|s|m|h)\b`), "DURATION"},
	{regexp.MustCompile(` {2,}`), "  "},
}

// same returns text without what differs from run to run.
func same(text string) string {
	for _, each := range variable {
		text = each.pattern.ReplaceAllString(text, each.by)
	}
	return text
}

// world is an etcd with services.
type world struct {
	place

	registry *etcd.Registry
	kinds    *kinds
	echo     *streams
}

// kinds serves test.kinds.
type kinds struct {
	testv1.UnimplementedKindsServiceServer

	// begun receives when SignIn begins, which returns when ended is closed.
	begun chan struct{}
	ended chan struct{}
}

func (*kinds) Mirror(_ context.Context, request *testv1.MirrorRequest) (*testv1.MirrorResponse, error) {
	return &testv1.MirrorResponse{Kinds: request.GetKinds()}, nil
}

func (k *kinds) SignIn(context.Context, *testv1.SignInRequest) (*testv1.SignInResponse, error) {
	select {
	case k.begun <- struct{}{}:
		<-k.ended
	case <-k.ended:
	}
	return &testv1.SignInResponse{Valid: true}, nil
}

// streams serves test.echo.
type streams struct {
	testv1.UnimplementedEchoServiceServer

	// watching, if there is one, receives when Watch has sent its replies. Then it goes on
	// until its caller ends it.
	watching chan struct{}
}

func (*streams) Echo(_ context.Context, request *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Text: request.GetText()}, nil
}

func (s *streams) Watch(request *testv1.WatchRequest, stream testv1.EchoService_WatchServer) error {
	for range request.GetCount() {
		if err := stream.Send(&testv1.WatchResponse{Text: request.GetText()}); err != nil {
			return err
		}
	}
	if request.GetText() == "for ever" {
		s.watching <- struct{}{}
		<-stream.Context().Done()
	}
	return nil
}

func (*streams) Collect(stream testv1.EchoService_CollectServer) error {
	var texts []string
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&testv1.CollectResponse{Texts: texts})
		}
		if err != nil {
			return err
		}
		texts = append(texts, request.GetText())
	}
}

func (*streams) Chat(stream testv1.EchoService_ChatServer) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if request.GetText() == "fail" {
			return status.Error(codes.ResourceExhausted, "no more")
		}
		if err := stream.Send(&testv1.ChatResponse{Text: request.GetText()}); err != nil {
			return err
		}
	}
}

// open opens a registry, which the end of the test closes.
func open(t *testing.T, at place) *etcd.Registry {
	t.Helper()
	registry, err := etcd.Open(etcd.Config{Endpoints: []string{at.endpoint}, Namespace: at.namespace, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = registry.Close() })
	return registry
}

var namespaces atomic.Int64

// newPlace returns a namespace of its own in the shared etcd.
func newPlace() place {
	return place{shared.Endpoints()[0], fmt.Sprintf("test/%d", namespaces.Add(1))}
}

// serve serves APIs until the end of the test, or until stop is called.
func serve(t *testing.T, registry *etcd.Registry, register func(grpc.ServiceRegistrar), options ...framework.ServeOption) (stop func()) {
	t.Helper()
	service, err := framework.Start(context.Background(), registry, register, append(options, framework.Logger(quiet))...)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		if err := service.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// newWorld serves auth, test.kinds and test.echo.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{place: newPlace(), kinds: &kinds{begun: make(chan struct{}), ended: make(chan struct{})}, echo: &streams{watching: make(chan struct{}, 1)}}
	w.registry = open(t, w.place)
	const cheap = 4 // bcrypt's lowest cost
	users, err := accounts.Open(filepath.Join(t.TempDir(), "accounts.json"), cheap, "adam")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, w.registry, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, auth.NewServer(users))
		testv1.RegisterKindsServiceServer(apis, w.kinds)
		testv1.RegisterEchoServiceServer(apis, w.echo)
	}, framework.Zone("west"))
	w.await(t, "auth", "test.echo", "test.kinds")
	return w
}

// await waits until APIs have an instance in etcd.
func (w *world) await(t *testing.T, apis ...string) {
	t.Helper()
	bus, err := framework.NewBus(w.registry, framework.Logger(quiet))
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	if err := bus.Ready(eventually.Context(t), apis...); err != nil {
		t.Fatal(err)
	}
}

// awaitRegistered waits until an API has an instance in etcd, which may not be reachable.
func (w *world) awaitRegistered(t *testing.T, api string) {
	t.Helper()
	discoverytest.Watch(t, w.registry, api).Until(t, "an instance", func(s discovery.Snapshot) bool { return len(s.Instances) == 1 })
}

// silent is an etcd that is away.
func silent(t *testing.T) place {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // so its port refuses connections
	return place{endpoint: "http://" + listener.Addr().String()}
}
