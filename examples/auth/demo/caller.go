package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/interceptors/timeout"
)

// callers is how many goroutines make calls while instances end.
const callers = 8

// slowTimeout is the timeout of calls whose handler works for long. The API's own 2 s are
// too short for several of them at once on a busy machine.
var slowTimeout = framework.Timeout(time.Minute)

// caller runs the caller's part of the demo.
type caller struct {
	report

	bus       *framework.Bus
	auth      authv1.AuthServiceClient
	sent      *sent
	instances *list
	processes []int
}

// call runs the caller's part. All calls use one bus.
func call(ctx context.Context, endpoint string, processes []string) (err error) {
	registry, err := etcd.Open(etcd.Config{Endpoints: []string{endpoint}})
	if err != nil {
		return err
	}
	defer registry.Close()
	sent := newSent()
	bus, err := framework.NewBus(registry, framework.DialOptions(grpc.WithStatsHandler(sent)))
	if err != nil {
		return err
	}
	defer bus.Close()
	c := &caller{bus: bus, auth: authv1.NewAuthServiceClient(bus), sent: sent, instances: newList(registry, "auth")}
	defer c.instances.stop()
	for _, process := range processes {
		id, err := strconv.Atoi(process)
		if err != nil {
			return fmt.Errorf("process %q: %w", process, err)
		}
		c.processes = append(c.processes, id)
	}
	start := time.Now()
	for _, step := range []func(context.Context){
		c.find, c.byType, c.asynchronously, c.byName, c.change, c.spread, c.deadline, c.unknown, c.kill, c.terminate, c.unserved,
	} {
		step(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return c.end(time.Since(start))
}

func (c *caller) find(ctx context.Context) {
	c.step("Instances of auth in etcd")
	found := c.instances.until(ctx, len(c.processes))
	c.printf(len(found) == len(c.processes), "%d found", len(found))
	for _, instance := range found {
		c.printf(true, "%s serves %s, incarnation %s", instance.Address, instance.Service, instance.Incarnation)
	}
	err := c.bus.Ready(ctx, "auth")
	c.printf(err == nil, "the bus is ready to call auth%s", suffix(err))
}

func (c *caller) byType(ctx context.Context) {
	c.step("check_password, by type")
	for _, try := range []struct {
		username, password string
		want               bool
	}{{"admin", "secret", true}, {"admin", "guess", false}} {
		start := time.Now()
		reply, err := c.auth.CheckPassword(ctx, &authv1.CheckPasswordRequest{Username: try.username, Password: try.password}, slowTimeout)
		c.printf(err == nil && reply.GetValid() == try.want, "username=%s password=%s: valid=%v after %s%s",
			try.username, try.password, reply.GetValid(), ms(time.Since(start)), suffix(err))
	}
}

func (c *caller) asynchronously(ctx context.Context) {
	c.step("check_password, asynchronously, four at once")
	passwords := []string{"secret", "secr3t", "Secret", "secret"}
	start := time.Now()
	var calls []*framework.Call[authv1.CheckPasswordResponse]
	for _, password := range passwords {
		calls = append(calls, framework.CallAsync(ctx, c.auth.CheckPassword, &authv1.CheckPasswordRequest{Username: "admin", Password: password}, slowTimeout))
	}
	c.printf(true, "all four were begun after %s", ms(time.Since(start)))
	for i, call := range calls {
		reply, err := call.Await(ctx)
		c.printf(err == nil && reply.GetValid() == (passwords[i] == "secret"), "password=%s: valid=%v%s", passwords[i], reply.GetValid(), suffix(err))
	}
	c.printf(true, "all four had ended after %s", ms(time.Since(start)))
}

func (c *caller) byName(ctx context.Context) {
	c.step("check_password, by name")
	const rpc = "auth.check_password"
	valid := false
	reply, err := c.bus.Call(ctx, rpc, framework.Args{"username": "admin", "password": "secret"}, slowTimeout)
	if err == nil {
		err = reply.Into(&valid)
	}
	c.printf(err == nil && valid, "username=admin password=secret: valid=%v%s", valid, suffix(err))
	for _, wrong := range []struct {
		what string
		args []any
	}{
		{"positional parameters are", []any{"admin", "secret"}},
		{"a misspelt one is", []any{framework.Args{"usrname": "admin", "password": "secret"}}},
		{"one that breaks a rule is", []any{framework.Args{"username": "", "password": "secret"}}},
	} {
		_, err := c.bus.Call(ctx, rpc, wrong.args...)
		c.printf(status.Code(err) == codes.InvalidArgument && framework.OutcomeOf(err) == framework.NotSent, "%s refused%s", wrong.what, suffix(err))
	}
}

func (c *caller) change(ctx context.Context) {
	c.step("get_user, promote_to_admin, get_user again")
	before, err := c.auth.GetUser(ctx, &authv1.GetUserRequest{Username: "adam"})
	c.printf(err == nil && !before.GetUser().GetAdmin(), "get_user: id=%d username=%s admin=%v%s",
		before.GetUser().GetId(), before.GetUser().GetUsername(), before.GetUser().GetAdmin(), suffix(err))
	_, err = c.auth.PromoteToAdmin(ctx, &authv1.PromoteToAdminRequest{Username: "adam"})
	c.printf(err == nil, "promote_to_admin%s", suffix(err))
	after, err := c.auth.GetUser(ctx, &authv1.GetUserRequest{Username: "adam"})
	c.printf(err == nil && after.GetUser().GetAdmin() && after.GetUser().GetId() == before.GetUser().GetId(), "get_user: id=%d username=%s admin=%v%s",
		after.GetUser().GetId(), after.GetUser().GetUsername(), after.GetUser().GetAdmin(), suffix(err))
	_, err = c.auth.GetUser(ctx, &authv1.GetUserRequest{Username: "nobody"})
	c.printf(status.Code(err) == codes.NotFound, "get_user of nobody is refused%s", suffix(err))
}

func (c *caller) spread(ctx context.Context) {
	const calls = 100
	c.step(fmt.Sprintf("How %d calls spread over the instances", calls))
	// Ready waits until one instance can be called: wait until all can.
	for answered := make(map[string]int); len(answered) < len(c.processes) && ctx.Err() == nil; {
		c.callOnce(ctx, answered)
	}
	byAddress := make(map[string]int)
	for range calls {
		c.callOnce(ctx, byAddress)
	}
	for _, address := range slices.Sorted(maps.Keys(byAddress)) {
		c.printf(byAddress[address] >= calls/(2*len(c.processes)), "%s answered %d", address, byAddress[address])
	}
	c.printf(len(byAddress) == len(c.processes), "%d instances answered", len(byAddress))
}

// callOnce calls get_user and counts the instance that answered.
func (c *caller) callOnce(ctx context.Context, byAddress map[string]int) {
	var from peer.Peer
	if _, err := c.auth.GetUser(ctx, &authv1.GetUserRequest{Username: "admin"}, grpc.Peer(&from)); err != nil {
		c.printf(false, "a call failed%s", suffix(err))
		return
	}
	byAddress[from.Addr.String()]++
}

func (c *caller) deadline(ctx context.Context) {
	c.step("A deadline that passes, and whose it was")
	request := &authv1.CheckPasswordRequest{Username: "admin", Password: "secret"}
	var timed *timeout.Error
	start := time.Now()
	_, err := c.auth.CheckPassword(ctx, request, framework.Timeout(5*time.Millisecond))
	c.printf(errors.As(err, &timed) && timed.Limit.Source == timeout.FromOption, "an option of 5 ms, after %s%s", ms(time.Since(start)), suffix(err))
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	start = time.Now()
	_, err = c.auth.CheckPassword(short, request)
	c.printf(errors.As(err, &timed) && timed.Limit.Source == timeout.FromCaller, "a deadline of 10 ms, after %s%s", ms(time.Since(start)), suffix(err))
}

func (c *caller) unknown(ctx context.Context) {
	c.step("An API that was never served")
	start := time.Now()
	_, err := grpc_testing.NewTestServiceClient(c.bus).EmptyCall(ctx, &grpc_testing.Empty{})
	took := time.Since(start)
	c.printf(errors.As(err, new(*discovery.UnknownAPIError)) && status.Code(err) == codes.Unimplemented, "refused after %s%s", ms(took), suffix(err))
}

func (c *caller) kill(ctx context.Context) {
	c.step(fmt.Sprintf("SIGKILL for process %d while %d callers call", c.processes[0], callers))
	load := c.begin(ctx)
	load.replies(ctx, 200)
	err := signalTo(c.processes[0], os.Kill)
	c.printf(err == nil, "killed%s", suffix(err))
	load.replies(ctx, 400)
	failed := load.end()
	c.printf(len(failed) <= callers, "%d calls had replies, %d were on the broken connection", load.good, len(failed))
	for text, count := range counted(failed) {
		c.printf(true, "%d× %s", count, text)
	}
	start := time.Now()
	left := c.instances.until(ctx, 1)
	c.printf(len(left) == 1, "its lease ran out %.1f s later: etcd has %d instance", time.Since(start).Seconds(), len(left))
}

func (c *caller) terminate(ctx context.Context) {
	c.step(fmt.Sprintf("SIGTERM for process %d while %d callers call", c.processes[1], callers))
	load := c.begin(ctx)
	load.replies(ctx, 200)
	slow := make([]*framework.Call[authv1.CheckPasswordResponse], callers)
	before := c.sent.count(authv1.AuthService_CheckPassword_FullMethodName)
	for i := range slow {
		slow[i] = framework.CallAsync(ctx, c.auth.CheckPassword, &authv1.CheckPasswordRequest{Username: "admin", Password: "secret"}, slowTimeout)
	}
	c.sent.wait(ctx, authv1.AuthService_CheckPassword_FullMethodName, before+len(slow))
	// The remaining instance reads its connection in order. When it has answered a
	// call that was sent after the slow ones, it has received those.
	_, err := c.auth.GetUser(ctx, &authv1.GetUserRequest{Username: "admin"})
	c.printf(err == nil, "%d slow calls are under way there%s", len(slow), suffix(err))
	err = signalTo(c.processes[1], syscall.SIGTERM)
	c.printf(err == nil, "told to end%s", suffix(err))
	load.refused(ctx)
	good, lost := 0, 0
	for _, err := range load.end() {
		if !errors.As(err, new(*discovery.NoInstanceError)) {
			lost++
			c.printf(false, "lost%s", suffix(err))
		}
	}
	for _, call := range slow {
		if reply, err := call.Await(ctx); err != nil || !reply.GetValid() {
			lost++
			c.printf(false, "a slow call was lost%s", suffix(err))
			continue
		}
		good++
	}
	c.printf(lost == 0, "%d calls and %d of %d slow ones had replies, %d were lost", load.good, good, len(slow), lost)
}

func (c *caller) unserved(ctx context.Context) {
	c.step("auth, now that it is not served")
	start := time.Now()
	_, err := c.auth.GetUser(ctx, &authv1.GetUserRequest{Username: "admin"})
	took := time.Since(start)
	c.printf(errors.As(err, new(*discovery.NoInstanceError)) && status.Code(err) == codes.Unavailable, "refused after %s%s", ms(took), suffix(err))
}

// signalTo sends a signal to a process. Windows supports only os.Kill and returns an
// error for all others.
func signalTo(id int, signal os.Signal) error {
	process, err := os.FindProcess(id)
	if err != nil {
		return err
	}
	return errors.Join(process.Signal(signal), process.Release())
}

// suffix returns the error as the end of a line.
func suffix(err error) string {
	if err == nil {
		return ""
	}
	return fmt.Sprintf(": %v (%v)", err, status.Code(err))
}

// counted returns the number of errors of each text.
func counted(errs []error) map[string]int {
	counts := make(map[string]int)
	for _, err := range errs {
		counts[err.Error()]++
	}
	return counts
}

// load is a number of goroutines that call get_user all the time, until a call fails
// because there is no instance, or until end is called.
type load struct {
	stop    context.CancelFunc
	done    sync.WaitGroup
	replied chan struct{}

	mu     sync.Mutex // guards the fields below
	good   int
	failed []error
}

func (c *caller) begin(ctx context.Context) *load {
	l := &load{replied: make(chan struct{})}
	ending, stop := context.WithCancel(ctx)
	l.stop = stop
	for range callers {
		l.done.Go(func() {
			for ending.Err() == nil {
				_, err := c.auth.GetUser(ctx, &authv1.GetUserRequest{Username: "admin"})
				if l.count(err) {
					return
				}
				select {
				case l.replied <- struct{}{}:
				default:
				}
			}
		})
	}
	return l
}

// count counts a call. It reports whether there is no instance left to call.
func (l *load) count(err error) (end bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil {
		l.good++
		return false
	}
	l.failed = append(l.failed, err)
	return errors.As(err, new(*discovery.NoInstanceError))
}

// replies waits for that many more replies.
func (l *load) replies(ctx context.Context, count int) {
	for range count {
		select {
		case <-l.replied:
		case <-ctx.Done():
		}
	}
}

// refused waits until all goroutines were refused.
func (l *load) refused(ctx context.Context) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.done.Wait()
	}()
	select {
	case <-done:
	case <-ctx.Done():
	}
}

// end ends the goroutines and returns the errors of their calls.
func (l *load) end() []error {
	l.stop()
	l.done.Wait()
	return l.failed
}
