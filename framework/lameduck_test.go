package framework_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/testlog"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestALameDuckServesPlainCallers has a plain client that goes on calling during the lame
// duck, over a connection from before and over new ones.
func TestALameDuckServesPlainCallers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options []framework.ServeOption
		serves  time.Duration // for so long
	}{
		"by default":     {serves: 200 * time.Millisecond},
		"with an option": {options: []framework.ServeOption{framework.LameDuck(5 * time.Second)}, serves: 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				_, running, listener := inMemory(t, &echo{}, test.options...)
				client := plainClient(t, listener)
				call := func(conn *grpc.ClientConn) error {
					_, err := testv1.NewEchoServiceClient(conn).EchoSoon(t.Context(), &testv1.EchoSoonRequest{})
					return err
				}
				if err := call(client); err != nil {
					t.Fatal(err)
				}
				begun := time.Now()
				stopped := make(chan error, 1)
				go func() { stopped <- running.stop() }()
				time.Sleep(test.serves - time.Millisecond)
				if err := call(client); err != nil {
					t.Errorf("after %v a call = %v", time.Since(begun), err)
				}
				if err := call(plainClient(t, listener)); err != nil {
					t.Errorf("after %v a call over a new connection = %v", time.Since(begun), err)
				}
				if listed := discoverytest.Watch(t, running.registry, "test.echo").Until(t, "anything", func(discovery.Snapshot) bool { return true }).Instances; test.serves > time.Second && len(listed) != 0 {
					t.Errorf("the registry has %v", listed)
				}
				health, err := grpc_health_v1.NewHealthClient(client).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
				if want := test.serves > time.Second; err != nil || (health.GetStatus() == grpc_health_v1.HealthCheckResponse_NOT_SERVING) != want {
					t.Errorf("the health is %v, %v; not serving: want %v", health, err, want)
				}
				time.Sleep(2 * time.Millisecond)
				synctest.Wait()
				if err := call(plainClient(t, listener)); err == nil {
					t.Errorf("after %v a call over a new connection succeeds", time.Since(begun))
				}
				if err := <-stopped; err != nil {
					t.Errorf("Serve = %v", err)
				}
			})
		})
	}
}

func TestTheLogHasTheLameDuck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log testlog.Log
		_, running, _ := inMemory(t, &echo{}, framework.Logger(log.Logger()), framework.LameDuck(3*time.Second))
		if err := running.stop(); err != nil {
			t.Fatal(err)
		}
		text := log.String()
		for _, want := range []string{
			`msg="shutting down: leaving the registry" address=10.0.0.1:443 shutdown_timeout=25s lame_duck=3s`,
			`msg="accepting calls until the lame duck has passed" after=200ms`,
			`msg="the registry was left; finishing the calls under way" address=10.0.0.1:443 after=3s calls=none`,
			`msg=stopped address=10.0.0.1:443 after=3s`,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("the log has no %q:\n%s", want, text)
			}
		}
	})
}

// TestAHundredCallsUnderWayComplete begins the shutdown while a hundred calls run.
func TestAHundredCallsUnderWayComplete(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const calls = 100
		var ran atomic.Int64
		bus, running, _ := inMemory(t, &echo{echo: func(_ context.Context, text string) (string, error) {
			ran.Add(1)
			time.Sleep(4 * time.Second)
			return text, nil
		}})
		client := testv1.NewEchoServiceClient(bus)
		var all []*framework.Call[testv1.EchoResponse]
		for range calls {
			all = append(all, framework.CallAsync(t.Context(), client.Echo, &testv1.EchoRequest{Text: "whole"}))
		}
		synctest.Wait()
		if took, err := stopTimed(running); err != nil || took > 4*time.Second+soon {
			t.Errorf("Serve ended after %v with %v", took, err)
		}
		for _, call := range all {
			if reply, err := call.Await(t.Context()); err != nil || reply.GetText() != "whole" {
				t.Errorf("a call = %v, %v", reply, err)
			}
		}
		if ran.Load() != calls {
			t.Errorf("%d handlers ran, want %d", ran.Load(), calls)
		}
	})
}

func TestTheTimesOfAShutdownFitIntoEachOther(t *testing.T) {
	t.Parallel()
	for want, options := range map[string][]framework.ServeOption{
		"option LameDuck: -1ns is less than zero":                                       {framework.LameDuck(-1)},
		"option LameDuck: 13s is more than half of the ShutdownTimeout, 25s":            {framework.LameDuck(13 * time.Second)},
		"option LameDuck: 6s is more than half of the ShutdownTimeout, 10s":             {framework.LameDuck(6 * time.Second), framework.ShutdownTimeout(10 * time.Second)},
		"option TerminationGracePeriod: 0s is not more than zero":                       {framework.TerminationGracePeriod(0)},
		"option ShutdownTimeout: 25s is not less than the TerminationGracePeriod, 25s":  {framework.TerminationGracePeriod(25 * time.Second)},
		"option ShutdownTimeout: 1m0s is not less than the TerminationGracePeriod, 45s": {framework.ShutdownTimeout(time.Minute), framework.TerminationGracePeriod(45 * time.Second)},
	} {
		err := startFails(t, options...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Serve = %v, want %q", err, want)
		}
	}
}

// It sets the environment, so it is not parallel.
func TestAServiceWarnsIfItsPlatformKillsItTooSoon(t *testing.T) {
	for name, test := range map[string]struct {
		variable string
		options  []framework.ServeOption
		warns    string
	}{
		"Kubernetes":                    {variable: "KUBERNETES_SERVICE_HOST", options: []framework.ServeOption{framework.ShutdownTimeout(30 * time.Second)}, warns: "terminationGracePeriodSeconds"},
		"Kubernetes, with less":         {variable: "KUBERNETES_SERVICE_HOST", options: []framework.ServeOption{framework.ShutdownTimeout(29 * time.Second)}},
		"Kubernetes, with the default":  {variable: "KUBERNETES_SERVICE_HOST"},
		"Kubernetes, with the option":   {variable: "KUBERNETES_SERVICE_HOST", options: []framework.ServeOption{framework.ShutdownTimeout(time.Minute), framework.TerminationGracePeriod(65 * time.Second)}},
		"systemd":                       {variable: "INVOCATION_ID", options: []framework.ServeOption{framework.ShutdownTimeout(90 * time.Second)}, warns: "TimeoutStopSec"},
		"systemd, with less":            {variable: "INVOCATION_ID", options: []framework.ServeOption{framework.ShutdownTimeout(time.Minute)}},
		"neither, whatever the time is": {options: []framework.ServeOption{framework.ShutdownTimeout(time.Hour)}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, variable := range []string{"KUBERNETES_SERVICE_HOST", "INVOCATION_ID"} {
				t.Setenv(variable, "")
			}
			if test.variable != "" {
				t.Setenv(test.variable, "10.0.0.1")
			}
			var log testlog.Log
			service, err := framework.Start(t.Context(), memory.New(), (&echo{}).register, append(test.options, framework.Logger(log.Logger()))...)
			if err != nil {
				t.Fatal(err)
			}
			if err := service.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if warned := strings.Contains(log.String(), "level=WARN"); warned != (test.warns != "") || !strings.Contains(log.String(), test.warns) {
				t.Errorf("the log warns: %v, want %q:\n%s", warned, test.warns, log.String())
			}
		})
	}
}
