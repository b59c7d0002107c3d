package main_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/eventually"
)

// TestEveryCommandEndsWithOneLineAndItsCode runs all commands that use a registry where
// something is wrong. The codes are those of docs/command.md; -1 is a case that a command does
// not have.
func TestEveryCommandEndsWithOneLineAndItsCode(t *testing.T) {
	t.Parallel()
	away := silent(t)
	// The last instance of test.kinds has gone from this namespace.
	gone := newPlace()
	serveKinds(t, gone)()
	secure := newPlace()
	authority := certtest.NewAuthority(t)
	files, _ := authority.Write(t, certtest.Leaf{Names: []string{"test.kinds", "auth", "test.echo"}})
	wrong, _ := certtest.NewAuthority(t).Write(t, certtest.Leaf{Names: []string{"caller"}})
	served(t, secure, framework.TLS(framework.TLSFiles{CA: files.CA, Cert: files.Cert, Key: files.Key}))
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0", 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	const sign = "test.kinds.sign_in username=a password=b"
	for command, codes := range map[string]struct{ away, unknown, none, tls int }{
		"apis":                              {1, -1, 0, 0},
		"apis --watch":                      {1, -1, -1, -1},
		"instances":                         {1, -1, 0, 0},
		"instances test.kinds":              {1, 1, 1, 0},
		"instances test.kinds --watch":      {1, 1, -1, -1},
		"describe test.kinds":               {1, 1, 1, 0},
		"call " + sign:                      {10, 10, 10, 10},
		"call test.kinds.sign_in -":         {10, 10, 10, 10},
		"bench --effects " + sign:           {1, 1, 1, 1},
		"ping test.kinds":                   {1, 1, 1, 1},
		"doctor":                            {1, -1, 0, 1},
		"settle x --token-key " + key:       {2, -1, -1, -1},
		"context list":                      {0, -1, -1, -1},
		"completion bash":                   {0, -1, -1, -1},
		"__completeNoDesc call test.kinds.": {0, 0, 0, 0},
		"help --llm":                        {0, -1, -1, -1},
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			for _, each := range []struct {
				name string
				at   place
				code int
				args []string
			}{
				{"etcd away", away, codes.away, nil},
				{"unknown API", newPlace(), codes.unknown, nil},
				{"no instance", gone, codes.none, nil},
				{"another authority", secure, codes.tls, []string{"--tls-ca", wrong.CA, "--tls-cert", wrong.Cert, "--tls-key", wrong.Key}},
				{"no TLS", secure, codes.tls, nil},
			} {
				if each.code < 0 {
					continue
				}
				args := append(strings.Fields(command), each.args...)
				if strings.HasPrefix(command, "call") || strings.HasPrefix(command, "bench") {
					args = append(args, "--timeout", "5s")
				}
				got := run(t, each.at, "{}", args...)
				lines := strings.Count(got.errs, "\n")
				if strings.HasPrefix(command, "__complete") {
					lines = 0 // the shell drops them
				}
				if got.code != each.code || (lines == 1) != (got.code != 0) || lines > 1 || lines == 1 && !strings.HasPrefix(got.errs, "onecall: ") {
					t.Errorf("%s: %+v, want the code %d and one line", each.name, got, each.code)
				}
			}
		})
	}
}

// TestEveryCommandEndsWhenItIsInterrupted interrupts commands that wait.
func TestEveryCommandEndsWhenItIsInterrupted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	t.Cleanup(func() { close(w.kinds.ended) })
	firstLine := func(r *running) { eventually.Receive(t, "the first line", r.out) }
	for command, test := range map[string]struct {
		code int
		// runs waits until the command does; nil waits until an etcd that is silent was asked.
		runs func(*running)
	}{
		"apis --watch":                   {0, firstLine},
		"instances --watch":              {0, firstLine},
		"dev --listen 127.0.0.1:0":       {0, func(r *running) { eventually.Receive(t, "the first line", r.errs) }},
		"apis":                           {1, nil},
		"instances":                      {1, nil},
		"describe auth":                  {1, nil},
		"ping auth":                      {1, nil},
		"doctor":                         {1, nil},
		"bench auth.get_user username=a": {1, nil},
		"call auth.get_user username=a":  {10, nil},
		"call test.kinds.sign_in username=a password=b": {12, func(*running) { eventually.Receive(t, "the handler", w.kinds.begun) }},
	} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			at, temporary := w.place, t.TempDir()
			if test.runs == nil {
				var asked <-chan struct{}
				at, asked = askedEtcd(t)
				test.runs = func(*running) { eventually.Receive(t, "a connection", asked) }
			}
			r := start(t, at.env("TMPDIR="+temporary), strings.Fields(command)...)
			test.runs(r)
			eventually.Returns(t, "the command", func() {
				if code := r.interrupt(t); code != test.code {
					t.Errorf("it ended with %d, want %d", code, test.code)
				}
			})
			if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
				t.Errorf("it left %v (%v)", left, err)
			}
		})
	}
}

// askedEtcd is an etcd that never answers. Its channel receives when it was connected to.
func askedEtcd(t *testing.T) (place, <-chan struct{}) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	asked := make(chan struct{}, 1)
	go func() {
		var conns []net.Conn // open until the end
		defer func() {
			for _, conn := range conns {
				_ = conn.Close()
			}
		}()
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			select {
			case asked <- struct{}{}:
			default:
			}
		}
	}()
	return place{endpoint: "http://" + listener.Addr().String()}, asked
}

// TestTheOutputOfEveryCommandGoesIntoAPipeWithoutColours compares the output in a pipe with
// that of a program that asks for no colours.
func TestTheOutputOfEveryCommandGoesIntoAPipeWithoutColours(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, command := range []string{"apis", "instances", "describe auth", "ping auth -c 1", "call auth.get_user username=admin", "doctor", "context list", "bench auth.get_user username=admin --duration 20ms"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			if got := run(t, w.place, "", strings.Fields(command)...); got.code != 0 || got.errs != "" || strings.Contains(got.out, "\x1b") || strings.Contains(got.out, "\r") {
				t.Errorf("%+v", got)
			}
		})
	}
}
