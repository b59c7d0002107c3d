package framework_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/fixedport"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// setEnv sets variables for the length of a test.
func setEnv(t *testing.T, variables map[string]string) {
	t.Helper()
	for name, value := range variables {
		t.Setenv(name, value)
	}
}

func TestTheEnvironmentConfiguresAServiceAndABus(t *testing.T) {
	authority := certtest.NewAuthority(t)
	files := named(t, authority, "test.echo")
	policy := filepath.Join(t.TempDir(), "policy.json")
	certtest.Store(t, policy, []byte(`{"test.echo": ["test.echo"]}`))
	setEnv(t, map[string]string{
		"ONECALL_LISTEN": "127.0.0.3:0", "ONECALL_ADVERTISE": "127.0.0.3:0", "ONECALL_ZONE": "a", "ONECALL_SHUTDOWN_TIMEOUT": "7s",
		"ONECALL_LAME_DUCK": "300ms", "ONECALL_TERMINATION_GRACE_PERIOD": "40s", "ONECALL_POLICY_FILE": policy,
		"ONECALL_TLS_CA": files.CA, "ONECALL_TLS_CERT": files.Cert, "ONECALL_TLS_KEY": files.Key,
		"ONECALL_ETCD_ENDPOINTS": "http://127.0.0.1:1", // for etcd.FromEnv
	})
	registry, log := memory.New(), new(testlog.Log)
	running := serve(t, registry, &echo{}, framework.FromEnv(), framework.Logger(log.Logger()))
	instance := serving(t, registry, 1)[0]
	if !strings.HasPrefix(instance.Address, "127.0.0.3:") || instance.Zone != "a" {
		t.Errorf("the instance is %+v", instance)
	}
	bus := newBus(t, registry, framework.FromEnv())
	if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Error(err)
	}
	stranger := newBus(t, registry, withTLS(named(t, authority, "shop")))
	if _, err := testv1.NewEchoServiceClient(stranger).Echo(t.Context(), &testv1.EchoRequest{}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("who is not in the policy: %v", err)
	}
	if err := running.stop(); err != nil {
		t.Error(err)
	}
	for _, want := range []string{"shutdown_timeout=7s", "lame_duck=300ms"} {
		if log.Count(want) != 1 {
			t.Errorf("the log does not say %q:\n%s", want, log)
		}
	}
}

func TestOptionsInCodeWinOverTheEnvironment(t *testing.T) {
	files := named(t, certtest.NewAuthority(t), "test.echo")
	setEnv(t, map[string]string{
		"ONECALL_LISTEN": "127.0.0.3:0", "ONECALL_ZONE": "a", "ONECALL_SHUTDOWN_TIMEOUT": "7s", "ONECALL_ADVERTISE": "127.0.0.3:0",
		"ONECALL_LAME_DUCK": "300ms", "ONECALL_TERMINATION_GRACE_PERIOD": "1s", "ONECALL_POLICY_FILE": "/no/such/file",
		"ONECALL_TLS_CA": files.CA, "ONECALL_TLS_CERT": files.Cert, "ONECALL_TLS_KEY": files.Key,
	})
	for title, place := range map[string]func([]framework.ServeOption) []framework.ServeOption{
		"FromEnv is the first": func(own []framework.ServeOption) []framework.ServeOption {
			return append([]framework.ServeOption{framework.FromEnv()}, own...)
		},
		"FromEnv is the last": func(own []framework.ServeOption) []framework.ServeOption { return append(own, framework.FromEnv()) },
	} {
		for security, own := range map[string]struct {
			serve framework.ServeOption
			bus   framework.BusOption
		}{
			"plain text":      {framework.Insecure(), framework.Insecure()},
			"own credentials": {framework.ServerOptions(grpc.Creds(insecure.NewCredentials())), framework.DialOptions(grpc.WithTransportCredentials(insecure.NewCredentials()))},
		} {
			t.Run(title+", "+security, func(t *testing.T) {
				registry, log := memory.New(), new(testlog.Log)
				running := serve(t, registry, &echo{}, place([]framework.ServeOption{
					framework.ListenOn("127.0.0.1:0"), framework.AdvertiseAs("127.0.0.1:0"), framework.Zone("b"), framework.ShutdownTimeout(8 * time.Second),
					framework.LameDuck(time.Millisecond), framework.TerminationGracePeriod(time.Minute), framework.Authorize(framework.Policy{"test.echo": {"*"}}),
					own.serve, framework.Logger(log.Logger()),
				})...)
				instance := serving(t, registry, 1)[0]
				if !strings.HasPrefix(instance.Address, "127.0.0.1:") || instance.Zone != "b" {
					t.Errorf("the instance is %+v", instance)
				}
				bus := newBus(t, registry, framework.FromEnv(), own.bus)
				if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
					t.Error(err)
				}
				if err := running.stop(); err != nil {
					t.Error(err)
				}
				for _, want := range []string{"shutdown_timeout=8s", "lame_duck=1ms"} {
					if log.Count(want) != 1 {
						t.Errorf("the log does not say %q:\n%s", want, log)
					}
				}
			})
		}
	}
}

func TestTheEnvironmentLimitsCallsUnlessCodeDoes(t *testing.T) {
	t.Setenv("ONECALL_MAX_IN_FLIGHT", "1")
	for title, test := range map[string]struct {
		own  framework.ServeOption
		want codes.Code
	}{
		"an option for all APIs": {framework.MaxInFlight(2), codes.OK},
		"an option for the API":  {framework.MaxInFlight(2, "test.echo"), codes.OK},
		"no option":              {framework.Zone("a"), codes.ResourceExhausted},
	} {
		t.Run(title, func(t *testing.T) {
			entered, leave := make(chan struct{}, 2), make(chan struct{})
			registry := memory.New()
			serve(t, registry, &echo{echo: func(context.Context, string) (string, error) {
				entered <- struct{}{}
				<-leave
				return "", nil
			}}, framework.FromEnv(), test.own)
			serving(t, registry, 1)
			client := testv1.NewEchoServiceClient(newBus(t, registry, framework.Retry(framework.RetryNone)))
			var first sync.WaitGroup
			first.Go(func() {
				if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
					t.Error(err)
				}
			})
			<-entered
			if test.want == codes.OK {
				close(leave)
			}
			if _, err := client.Echo(t.Context(), &testv1.EchoRequest{}); status.Code(err) != test.want {
				t.Errorf("the second call = %v, want %v", err, test.want)
			}
			if test.want != codes.OK {
				close(leave)
			}
			first.Wait()
		})
	}
}

func TestAServiceAndABusShareThePageOfTheEnvironment(t *testing.T) {
	address := fixedport.Address(t)
	t.Setenv("ONECALL_ADMIN", address)
	registry := memory.New()
	running := serve(t, registry, &echo{}, framework.FromEnv())
	serving(t, registry, 1)
	bus := newBus(t, registry, framework.FromEnv())
	if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Fatal(err)
	}
	own := newBus(t, registry, framework.FromEnv(), framework.Admin("127.0.0.1:0"))
	defer func() { _ = own.Close() }()
	eventually.True(t, "both sides on one page", func() bool {
		now, _ := shown(t, "http://"+address)
		return len(now.RPCs) == 2 && now.RPCs[0].Side == "serves" && now.RPCs[1].Side == "calls"
	})
	if err := errors.Join(running.stop(), bus.Close()); err != nil {
		t.Error(err)
	}
}

func TestAWrongVariableIsAnErrorThatNamesIt(t *testing.T) {
	for name, value := range map[string]string{
		"ONECALL_LISTN": "127.0.0.1:0", "ONECALL_SHUTDOWN_TIMEOUT": "soon", "ONECALL_INSECURE": "perhaps", "ONECALL_MAX_IN_FLIGHT": "many", "ONECALL_TLS_ALLOW_ANONYMOUS": "2",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, value)
			want := "option FromEnv: variable " + name + ": "
			if err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, framework.FromEnv()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Serve = %v, want %q", err, want)
			}
			if _, err := framework.NewBus(memory.New(), framework.FromEnv()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("NewBus = %v, want %q", err, want)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := framework.Serve(ctx, memory.New(), (&echo{}).register, quiet); err != nil {
				t.Errorf("without the option Serve = %v", err)
			}
		})
	}
	// A wrong value that has the right type is an error of the option.
	for name, test := range map[string]struct{ value, want string }{
		"ONECALL_LISTEN":           {"8443", `variable ONECALL_LISTEN: option ListenOn: "8443" is not "host:port"`},
		"ONECALL_ADVERTISE":        {":1", `variable ONECALL_ADVERTISE: option AdvertiseAs: ":1" is not`},
		"ONECALL_SHUTDOWN_TIMEOUT": {"-1s", "variable ONECALL_SHUTDOWN_TIMEOUT: option ShutdownTimeout: -1s"},
		"ONECALL_POLICY_FILE":      {"/no/such/file", "/no/such/file: no such file"},
		"ONECALL_MAX_IN_FLIGHT":    {"-1", "variable ONECALL_MAX_IN_FLIGHT: option MaxInFlight: -1 is not more than zero"},
		"ONECALL_ADMIN":            {"6060", `variable ONECALL_ADMIN: option Admin: "6060" is not "host:port"`},
		"ONECALL_TLS_CA":           {"/no/such/file", "variable ONECALL_TLS_*: option TLS: Cert and Key are empty"},
	} {
		t.Run(name+"="+test.value, func(t *testing.T) {
			t.Setenv(name, test.value)
			if err := framework.Serve(t.Context(), memory.New(), (&echo{}).register, framework.FromEnv()); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Serve = %v, want %q", err, test.want)
			}
		})
	}
}

// TestThePageOfConfigurationListsTheVariables compares docs/configuration.md with the code.
func TestThePageOfConfigurationListsTheVariables(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	for _, row := range regexp.MustCompile("(?m)^\\| `(ONECALL_[A-Z_]+)` \\|").FindAllStringSubmatch(string(page), -1) {
		if !strings.HasPrefix(row[1], "ONECALL_ETCD_") { // which package etcd compares
			shown = append(shown, row[1])
		}
	}
	if want := framework.Variables(); !slices.Equal(shown, want) {
		t.Errorf("the page lists %q, the code has %q", shown, want)
	}
}
