package main_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// running is a command that runs until it is interrupted.
type running struct {
	command   *exec.Cmd
	out, errs <-chan string
}

// start starts the command.
func start(t *testing.T, env []string, args ...string) *running {
	t.Helper()
	command := exec.CommandContext(eventually.Context(t), binary, args...)
	command.Env = environment(env...)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	errs, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return &running{command, lines(out), lines(errs)}
}

// lines sends the lines of a pipe, and closes the channel at its end.
func lines(of io.Reader) <-chan string {
	const most = 1000
	read := make(chan string, most)
	go func() {
		defer close(read)
		for scanner := bufio.NewScanner(of); scanner.Scan(); {
			read <- scanner.Text()
		}
	}()
	return read
}

// interrupt interrupts the command as Ctrl-C does, and returns its exit code.
func (r *running) interrupt(t *testing.T) int {
	t.Helper()
	if err := r.command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	for range r.out { // until it has ended
	}
	for range r.errs {
	}
	_ = r.command.Wait() // the exit code says what it returns
	return r.command.ProcessState.ExitCode()
}

// TestDevRunsAnEtcdAndListsInstancesUntilItIsInterrupted starts a service on the etcd of dev,
// and ends it.
func TestDevRunsAnEtcdAndListsInstancesUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	temporary := t.TempDir()
	dev := start(t, []string{"TMPDIR=" + temporary}, "dev", "--listen", "127.0.0.1:0", "-o", "plain")
	endpoint := ""
	for endpoint == "" {
		_, endpoint, _ = strings.Cut(eventually.Receive(t, "the line to set", dev.errs), "export ONECALL_ETCD_ENDPOINTS=")
	}
	stop := serve(t, open(t, place{endpoint: endpoint}), func(apis grpc.ServiceRegistrar) { testv1.RegisterEchoServiceServer(apis, &streams{}) })
	next := func(want string) {
		t.Helper()
		if got := eventually.Receive(t, want, dev.out); !strings.HasSuffix(same(got), want) {
			t.Errorf("dev printed %q, want %q at the end", got, want)
		}
	}
	next("\t+\ttest.echo\tADDRESS\tserving")
	if got := run(t, place{endpoint: endpoint}, "", "apis", "-o", "plain"); !strings.HasPrefix(got.out, "test.echo\tonecall.test.v1.EchoService\t1\t0") {
		t.Errorf("%+v", got)
	}
	stop()
	next("\t~\ttest.echo\tADDRESS\tdraining")
	next("\t-\ttest.echo\tADDRESS\tdraining")
	if code := dev.interrupt(t); code != 0 {
		t.Errorf("dev ended with %d", code)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) != 0 {
		t.Errorf("dev left %v (%v)", left, err)
	}
	if got := run(t, place{endpoint: endpoint}, "", "instances", "test.echo"); got.code != 1 {
		t.Errorf("the etcd of dev has not ended: %+v", got)
	}
}

// TestInstancesAreWatchedAsJSONLines watches one API that comes and goes.
func TestInstancesAreWatchedAsJSONLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	watching := start(t, w.env(), "instances", "test.echo", "--watch", "-o", "jsonl")
	next := func(change string) string {
		t.Helper()
		var got struct {
			Change  string `json:"change"`
			API     string `json:"api"`
			Address string `json:"address"`
		}
		line := eventually.Receive(t, change, watching.out)
		if err := json.Unmarshal([]byte(line), &got); err != nil || got.Change != change || got.API != "test.echo" {
			t.Errorf("got %s (%v), want the change %s", line, err, change)
		}
		return got.Address
	}
	first := next("added")
	stop := serve(t, w.registry, func(apis grpc.ServiceRegistrar) { testv1.RegisterEchoServiceServer(apis, &streams{}) })
	second := next("added")
	stop()
	if changed, gone := next("changed"), next("removed"); first == second || changed != second || gone != second {
		t.Errorf("%s and %s came, %s changed, %s went", first, second, changed, gone)
	}
	if code := watching.interrupt(t); code != 0 {
		t.Errorf("the command ended with %d", code)
	}
}

// TestACallOfUnknownOutcomeIsSettledByItsToken interrupts a call while its handler runs.
func TestACallOfUnknownOutcomeIsSettledByItsToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	call := start(t, w.env(), "call", "test.kinds.sign_in", "username=adam", "password=x", "--token-key", key, "-o", "jsonl")
	eventually.Receive(t, "the handler", w.kinds.begun)
	if err := call.command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var record struct {
		Outcome string `json:"outcome"`
		Code    string `json:"code"`
		Token   string `json:"token"`
	}
	line := eventually.Receive(t, "the record of the call", call.out)
	if err := json.Unmarshal([]byte(line), &record); err != nil || record.Outcome != "unknown" || record.Code != "CANCELLED" || record.Token == "" {
		t.Fatalf("the call printed %s (%v)", line, err)
	}
	if said := eventually.Receive(t, "the error", call.errs); !strings.Contains(said, "; ask what became of it: onecall settle "+record.Token) {
		t.Errorf("the call said %q", said)
	}
	if _ = call.command.Wait(); call.command.ProcessState.ExitCode() != 12 {
		t.Errorf("the call ended with %d", call.command.ProcessState.ExitCode())
	}
	if got := run(t, w.place, "", "settle", record.Token, "--token-key", key, "--timeout", "1ms"); got.code != 12 || got.out != "" || strings.Contains(got.errs, "not sent") {
		t.Errorf("while the handler runs: %+v", got)
	}
	close(w.kinds.ended)
	if got := run(t, w.place, "", "settle", record.Token, "--token-key", key, "-o", "plain"); got.code != 0 || got.out != `{"valid":true}`+"\n" {
		t.Errorf("%+v", got)
	}
	if got := run(t, w.place, "", "settle", record.Token+"x", "--token-key", key); got.code != 2 {
		t.Errorf("a wrong token: %+v", got)
	}
}

// TestInstancesWithTLSAreCalledWithTheRightFilesOnly serves with TLS, and calls with the
// right authority, with another, and in plain text.
func TestInstancesWithTLSAreCalledWithTheRightFilesOnly(t *testing.T) {
	t.Parallel()
	at := newPlace()
	registry := open(t, at)
	right, _ := certtest.NewAuthority(t).Write(t, certtest.Leaf{Names: []string{"test.kinds"}})
	wrong, _ := certtest.NewAuthority(t).Write(t, certtest.Leaf{Names: []string{"test.kinds"}})
	serve(t, registry, func(apis grpc.ServiceRegistrar) { testv1.RegisterKindsServiceServer(apis, &kinds{}) },
		framework.TLS(framework.TLSFiles{CA: right.CA, Cert: right.Cert, Key: right.Key}))
	(&world{registry: registry}).awaitRegistered(t, "test.kinds")
	for name, test := range map[string]struct {
		files []string
		code  int
		says  string
	}{
		"right":      {[]string{"--tls-ca", right.CA, "--tls-cert", right.Cert, "--tls-key", right.Key}, 11, "UNIMPLEMENTED"},
		"wrong":      {[]string{"--tls-ca", wrong.CA}, 10, "certificate"},
		"plain text": {nil, 10, "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			call := run(t, at, "", append([]string{"call", "test.kinds.count"}, test.files...)...)
			if call.code != test.code || !strings.Contains(call.errs, test.says) || strings.Count(call.errs, "\n") != 1 {
				t.Errorf("the call: %+v", call)
			}
			instances := run(t, at, "", append([]string{"instances", "test.kinds", "-o", "jsonl"}, test.files...)...)
			if reachable := strings.Contains(instances.out, `"reachable":true`); instances.code != 0 || reachable != (test.code == 11) {
				t.Errorf("the instances: %+v", instances)
			}
			ping := run(t, at, "", append([]string{"ping", "test.kinds", "-c", "1"}, test.files...)...)
			if silent := strings.Contains(ping.errs, "1 of 1 instances of test.kinds did not answer"); silent != (test.code != 11) || silent != (ping.code == 1) {
				t.Errorf("the ping: %+v", ping)
			}
		})
	}
}

// TestAPIsAreWatched watches APIs that come, change and lose their last instance.
func TestAPIsAreWatched(t *testing.T) {
	t.Parallel()
	at := newPlace()
	watching := start(t, at.env(), "apis", "--watch", "-o", "plain")
	next := func(want string) {
		t.Helper()
		if got := eventually.Receive(t, want, watching.out); !strings.HasSuffix(got, want) {
			t.Errorf("got %q, want %q at the end", got, want)
		}
	}
	serve(t, open(t, at), func(apis grpc.ServiceRegistrar) { testv1.RegisterEchoServiceServer(apis, &streams{}) })
	next("\t+\ttest.echo\t1 serving\t0 draining")
	stop := serveKinds(t, at) // of which test.echo does not change
	next("\t+\ttest.kinds\t1 serving\t0 draining")
	stop()
	next("\t~\ttest.kinds\t0 serving\t1 draining")
	next("\t~\ttest.kinds\t0 serving\t0 draining")
	if code := watching.interrupt(t); code != 0 {
		t.Errorf("the command ended with %d", code)
	}
}
