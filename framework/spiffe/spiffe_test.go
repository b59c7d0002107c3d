package spiffe_test

import (
	"context"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/framework/spiffe"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

var (
	domain = spiffeid.RequireTrustDomainFromString("example.org")
	quiet  = framework.Logger(slog.New(slog.DiscardHandler))
)

// agent serves the Workload API to one program, as an agent of SPIRE does.
type agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer

	mu      sync.Mutex // guards the fields below
	current *workload.X509SVIDResponse
	changed chan struct{}
}

// FetchX509SVID sends the certificate of the program, and again when it has changed.
func (a *agent) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	for {
		a.mu.Lock()
		current, changed := a.current, a.changed
		a.mu.Unlock()
		if err := stream.Send(current); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return nil
		}
	}
}

// issue replaces the certificate of the program and its authorities.
func (a *agent) issue(t *testing.T, id string, by *certtest.Authority, trusted ...*certtest.Authority) {
	t.Helper()
	issued := by.Issue(t, certtest.Leaf{URIs: []string{id}})
	key, err := x509.MarshalPKCS8PrivateKey(issued.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	var bundle []byte
	for _, authority := range trusted {
		bundle = append(bundle, authority.Certificate.Raw...)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.current = &workload.X509SVIDResponse{Svids: []*workload.X509SVID{{SpiffeId: id, X509Svid: issued.Leaf.Raw, X509SvidKey: key, Bundle: bundle}}}
	close(a.changed)
	a.changed = make(chan struct{})
}

// program returns the source of a program, and its agent.
func program(t *testing.T, id string, by *certtest.Authority, trusted ...*certtest.Authority) (*workloadapi.X509Source, *agent) {
	t.Helper()
	a := &agent{changed: make(chan struct{})}
	a.issue(t, id, by, trusted...)
	socket := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(server, a)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	source, err := workloadapi.NewX509Source(eventually.Context(t), workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+socket)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	return source, a
}

// echo replies with the principal of its caller.
type echo struct {
	testv1.UnimplementedEchoServiceServer
}

func (echo) Echo(ctx context.Context, _ *testv1.EchoRequest) (*testv1.EchoResponse, error) {
	return &testv1.EchoResponse{Text: framework.PrincipalOf(ctx)}, nil
}

func (echo) Watch(_ *testv1.WatchRequest, stream testv1.EchoService_WatchServer) error {
	return stream.Send(&testv1.WatchResponse{Text: framework.PrincipalOf(stream.Context())})
}

// serve serves test.echo for the length of the test.
func serve(t *testing.T, registry *memory.Registry, options ...framework.ServeOption) {
	t.Helper()
	service, err := framework.Start(t.Context(), registry, func(apis grpc.ServiceRegistrar) {
		testv1.RegisterEchoServiceServer(apis, echo{})
	}, append(options, quiet)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Wait() })
}

// call makes a unary call and a stream on a new connection.
func call(t *testing.T, registry *memory.Registry, source spiffe.Source) (principal string, err error) {
	t.Helper()
	bus, err := framework.NewBus(registry, quiet, spiffe.Bus(source, spiffe.InDomain(domain, "apis")))
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	client := testv1.NewEchoServiceClient(bus)
	reply, err := client.Echo(t.Context(), &testv1.EchoRequest{})
	if err != nil {
		return "", err
	}
	stream, err := client.Watch(t.Context(), &testv1.WatchRequest{})
	if err != nil {
		return "", err
	}
	message, err := stream.Recv()
	if err != nil {
		return "", err
	}
	if _, err := stream.Recv(); err != io.EOF {
		t.Errorf("the stream ended with %v", err)
	}
	if reply.GetText() != message.GetText() {
		t.Errorf("the principal is %q, and %q in a stream", reply.GetText(), message.GetText())
	}
	return reply.GetText(), nil
}

func TestBothSidesAreKnownByTheirIDs(t *testing.T) {
	t.Parallel()
	authority, other, registry := certtest.NewAuthority(t), certtest.NewAuthority(t), memory.New()
	service, _ := program(t, "spiffe://example.org/apis/test.echo", authority, authority)
	serve(t, registry, spiffe.Service(service, tlsconfig.AuthorizeMemberOf(domain)),
		framework.Authorize(framework.Policy{"test.echo": {"spiffe://example.org/shop"}}))
	for title, test := range map[string]struct {
		id      string
		by      *certtest.Authority
		trusted *certtest.Authority
		want    string // of the error, "" if the call succeeds
		code    codes.Code
	}{
		"who may call":                   {"spiffe://example.org/shop", authority, authority, "", codes.OK},
		"who may not":                    {"spiffe://example.org/mail", authority, authority, "does not allow this call", codes.PermissionDenied},
		"a stranger":                     {"spiffe://example.org/shop", other, authority, "certificate", codes.Unavailable},
		"of another trust domain":        {"spiffe://example.com/shop", authority, authority, "no X.509 bundle for trust domain", codes.Unavailable},
		"who does not trust the service": {"spiffe://example.org/shop", authority, other, "certificate signed by unknown authority", codes.Unavailable},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			source, _ := program(t, test.id, test.by, test.trusted)
			principal, err := call(t, registry, source)
			if status.Code(err) != test.code || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("a call = %v, want %v, %q", err, test.code, test.want)
			}
			if err == nil && principal != test.id {
				t.Errorf("the principal is %q, want %q", principal, test.id)
			}
		})
	}
}

func TestAnInstanceMustHaveTheIDOfItsAPI(t *testing.T) {
	t.Parallel()
	authority, registry := certtest.NewAuthority(t), memory.New()
	service, _ := program(t, "spiffe://example.org/apis/auth", authority, authority)
	serve(t, registry, spiffe.Service(service, tlsconfig.AuthorizeMemberOf(domain)))
	source, _ := program(t, "spiffe://example.org/shop", authority, authority)
	_, err := call(t, registry, source)
	if err == nil || !strings.Contains(err.Error(), "unexpected ID") || !strings.Contains(err.Error(), "spiffe://example.org/apis/auth") || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a call = %v", err)
	}
}

// TestCallsGoOnOverARotationOfTheAuthority replaces the certificates and the authority of
// both sides while calls are made.
func TestCallsGoOnOverARotationOfTheAuthority(t *testing.T) {
	t.Parallel()
	old, next, registry := certtest.NewAuthority(t), certtest.NewAuthority(t), memory.New()
	const api, shop = "spiffe://example.org/apis/test.echo", "spiffe://example.org/shop"
	service, serviceAgent := program(t, api, old, old)
	caller, callerAgent := program(t, shop, old, old)
	serve(t, registry, spiffe.Service(service, tlsconfig.AuthorizeMemberOf(domain)))
	for _, step := range []struct {
		agent   *agent
		source  *workloadapi.X509Source
		id      string
		by      *certtest.Authority
		trusted []*certtest.Authority
	}{
		{serviceAgent, service, api, old, []*certtest.Authority{old, next}},
		{callerAgent, caller, shop, old, []*certtest.Authority{old, next}},
		{serviceAgent, service, api, next, []*certtest.Authority{old, next}},
		{callerAgent, caller, shop, next, []*certtest.Authority{next}},
		{serviceAgent, service, api, next, []*certtest.Authority{next}},
	} {
		before, err := step.source.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		step.agent.issue(t, step.id, step.by, step.trusted...)
		eventually.True(t, "the new certificate", func() bool {
			now, err := step.source.GetX509SVID()
			return err == nil && !now.Certificates[0].Equal(before.Certificates[0])
		})
		if _, err := call(t, registry, caller); err != nil {
			t.Errorf("a call = %v", err)
		}
	}
	outdated, _ := program(t, shop, old, old, next)
	if _, err := call(t, registry, outdated); err == nil || framework.OutcomeOf(err) != framework.NotSent {
		t.Errorf("a call of one with the old authority = %v", err)
	}
}
