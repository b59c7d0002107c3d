package framework_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// demanding makes a service refuse calls that are not bound to it.
var demanding = framework.Admission(framework.AdmissionConfig{RequireIdentity: true})

func TestCallsStayBoundWhateverThePolicy(t *testing.T) {
	t.Parallel()
	for policy, config := range map[string]string{
		"onecall_least_request":          "",
		"least_request_experimental":     "",
		"round_robin":                    "",
		"weighted_round_robin":           `{"enableOobLoadReport": false}`,
		"ring_hash_experimental":         `{"requestHashHeader": "account"}`,
		"random_subsetting_experimental": `{"subsetSize": 2, "childPolicy": [{"round_robin": {}}]}`,
		"pick_first":                     `{"shuffleAddressList": true}`,
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			registry := memory.New()
			var runs [3]atomic.Int64
			for i := range runs {
				serve(t, registry, &echo{echo: counting(&runs[i])}, demanding)
			}
			discoverytest.Watch(t, registry, "test.echo").Until(t, "three instances", func(s discovery.Snapshot) bool { return len(s.Instances) == 3 })
			client := testv1.NewEchoServiceClient(newBus(t, registry, framework.LoadBalancing(policy, config)))
			const calls = 60
			for i := range calls {
				ctx := metadata.AppendToOutgoingContext(t.Context(), "account", strconv.Itoa(i))
				if _, err := client.Echo(ctx, &testv1.EchoRequest{}); err != nil {
					t.Fatal(err)
				}
			}
			if total := runs[0].Load() + runs[1].Load() + runs[2].Load(); total != calls {
				t.Errorf("%d calls ran %d times", calls, total)
			}
		})
	}
}

func TestABadPolicyIsAnErrorAtConstruction(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ policy, config, want string }{
		{"", "", `no policy has the name ""`},
		{"roundrobin", "", `no policy has the name "roundrobin": use one of ["onecall_least_request"`},
		{"least_request_experimental", `{"choiceCount": 1}`, "choiceCount"},
		{"round_robin", "{", `policy "round_robin" takes no configuration`},
		{"pick_first", "{", `configuration { of "pick_first"`},
		{"random_subsetting_experimental", "", "subset"},
	} {
		t.Run(test.policy+test.config, func(t *testing.T) {
			_, err := framework.NewBus(memory.New(), framework.LoadBalancing(test.policy, test.config))
			if err == nil || !strings.Contains(err.Error(), "option LoadBalancing") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("NewBus = %v, want an error that says %q", err, test.want)
			}
		})
	}
	for _, policy := range framework.Policies {
		if balancer.Get(policy) == nil {
			t.Errorf("the error suggests policy %q, which grpc-go does not know", policy)
		}
	}
}

func TestAnInstanceThatSaysItIsUnhealthyGetsNoCalls(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	var runs [2]atomic.Int64
	serve(t, registry, &echo{echo: counting(&runs[0])})
	own := health.NewServer()
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() {
		returned <- framework.Serve(ctx, registry, func(apis grpc.ServiceRegistrar) {
			(&echo{echo: counting(&runs[1])}).register(apis)
			grpc_health_v1.RegisterHealthServer(apis, own)
		}, quiet)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-returned; err != nil {
			t.Error(err)
		}
	})
	discoverytest.Watch(t, registry, "test.echo").Until(t, "two instances", func(s discovery.Snapshot) bool { return len(s.Instances) == 2 })
	client := testv1.NewEchoServiceClient(newBus(t, registry, framework.LoadBalancing("round_robin", "")))
	call := func() {
		t.Helper()
		if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for runs[0].Load() == 0 || runs[1].Load() == 0 {
		call()
	}
	own.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	const quietCalls = 50
	for inARow, before := 0, runs[1].Load(); inARow < quietCalls; inARow++ { // until the caller knows
		call()
		if now := runs[1].Load(); now != before {
			inARow, before = 0, now
		}
	}
	own.SetServingStatus("", grpc_health_v1.HealthCheckResponse_SERVING)
	for before := runs[1].Load(); runs[1].Load() == before; {
		call()
	}
}

func TestTheHealthServiceTellsWhetherAServiceIsRegistered(t *testing.T) {
	t.Parallel()
	registry := &forgetful{Registry: memory.New(), changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() { returned <- framework.Serve(ctx, registry, (&echo{}).register, quiet) }()
	t.Cleanup(func() {
		cancel()
		if err := <-returned; err != nil {
			t.Error(err)
		}
	})
	conn, err := framework.Dial(registry, "test.echo", quiet)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	wait := eventually.Context(t)
	if err := conn.Ready(wait); err != nil {
		t.Fatal(err)
	}
	watch, err := grpc_health_v1.NewHealthClient(conn).Watch(wait, &grpc_health_v1.HealthCheckRequest{Service: framework.RegistrationHealth})
	if err != nil {
		t.Fatal(err)
	}
	previous := grpc_health_v1.HealthCheckResponse_NOT_SERVING // before Serve is notified of the registration
	for _, want := range []grpc_health_v1.HealthCheckResponse_ServingStatus{
		grpc_health_v1.HealthCheckResponse_SERVING, grpc_health_v1.HealthCheckResponse_NOT_SERVING, grpc_health_v1.HealthCheckResponse_SERVING,
	} {
		reply, err := watch.Recv()
		for err == nil && reply.GetStatus() == previous {
			reply, err = watch.Recv()
		}
		if err != nil || reply.GetStatus() != want {
			t.Fatalf("the registration's health is %v (%v), want %v", reply.GetStatus(), err, want)
		}
		previous = want
		registry.turn()
	}
	if reply, err := grpc_health_v1.NewHealthClient(conn).Check(wait, &grpc_health_v1.HealthCheckRequest{}); err != nil || reply.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Errorf("the health of the server itself is %v (%v)", reply.GetStatus(), err)
	}
}

// forgetful is a registry whose registrations lose what they registered, and
// find it again, at each turn.
type forgetful struct {
	*memory.Registry

	mu      sync.Mutex
	lost    bool
	changed chan struct{}
}

func (f *forgetful) Register(instances ...discovery.Instance) (discovery.Registration, error) {
	registration, err := f.Registry.Register(instances...)
	return &forgetfulRegistration{registration, f}, err
}

func (f *forgetful) turn() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lost = !f.lost
	close(f.changed)
	f.changed = make(chan struct{})
}

type forgetfulRegistration struct {
	discovery.Registration

	registry *forgetful
}

func (r *forgetfulRegistration) Status() discovery.Status {
	r.registry.mu.Lock()
	defer r.registry.mu.Unlock()
	return discovery.Status{Registered: !r.registry.lost, Changed: r.registry.changed}
}
