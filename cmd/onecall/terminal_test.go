//go:build !windows

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/creack/pty"

	"github.com/onecall-dev/onecall/internal/eventually"
)

// ctrlC is what the key sends.
const ctrlC = "\x03"

// screen is a program on a terminal of its own.
type screen struct {
	t       *testing.T
	command *exec.Cmd
	tty     *os.File
	// done is closed when the terminal has been closed.
	done chan struct{}

	// mu guards what the program has written.
	mu   sync.Mutex
	text strings.Builder
}

// on runs a program on a terminal with so many columns.
func on(t *testing.T, columns int, env []string, program string, args ...string) *screen {
	t.Helper()
	s := &screen{t: t, command: exec.CommandContext(eventually.Context(t), program, args...), done: make(chan struct{})}
	s.command.Env = environment(append([]string{"TERM=xterm"}, env...)...)
	tty, err := pty.StartWithSize(s.command, &pty.Winsize{Rows: 50, Cols: uint16(columns)})
	if err != nil {
		t.Fatal(err)
	}
	s.tty = tty
	t.Cleanup(func() { _ = tty.Close() })
	go func() {
		defer close(s.done)
		data := make([]byte, 4096)
		for {
			n, err := tty.Read(data)
			s.mu.Lock()
			s.text.Write(data[:n])
			s.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	return s
}

// read returns what the program has written.
func (s *screen) read() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.ReplaceAll(s.text.String(), "\r\n", "\n")
}

// await waits until the program has written a text.
func (s *screen) await(want string) {
	s.t.Helper()
	eventually.True(s.t, want, func() bool { return strings.Contains(s.read(), want) })
}

// press presses keys.
func (s *screen) press(keys string) {
	s.t.Helper()
	if _, err := s.tty.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// end waits for the end of the program, and returns its exit code and all that it has written.
func (s *screen) end() (int, string) {
	s.t.Helper()
	_ = s.command.Wait() // the exit code says what it returns
	<-s.done
	return s.command.ProcessState.ExitCode(), s.read()
}

// lastErased returns the lines without those that were erased.
func lastErased(text string) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if at := strings.LastIndex(line, "\r\x1b[K"); at >= 0 {
			line = line[at+len("\r\x1b[K"):]
		}
		lines = append(lines, strings.ReplaceAll(line, "^C", ""))
	}
	return lines
}

// TestDevOnATerminal starts and stops a service, and presses Ctrl-C.
func TestDevOnATerminal(t *testing.T) {
	t.Parallel()
	const columns = 60
	dev := on(t, columns, nil, binary, "dev", "--listen", "127.0.0.1:0")
	const before = "export ONECALL_ETCD_ENDPOINTS="
	dev.await(before)
	eventually.True(t, "the end of the line", func() bool {
		_, rest, _ := strings.Cut(dev.read(), before)
		return strings.Contains(rest, "\n")
	})
	_, rest, _ := strings.Cut(dev.read(), before)
	endpoint, _, _ := strings.Cut(rest, "\n")
	stop := serveKinds(t, place{endpoint: endpoint})
	dev.await("+  test.kinds  127.0.0.1:")
	stop()
	dev.await("-  test.kinds  127.0.0.1:")
	dev.press(ctrlC)
	code, text := dev.end()
	if code != 0 || !strings.Contains(text, "\x1b[32m") || !strings.Contains(text, "\x1b[31m") {
		t.Errorf("dev ended with %d, on the screen was %q", code, text)
	}
}

// TestTablesAreCutWhereTheTerminalEnds lists and watches on narrow terminals.
func TestTablesAreCutWhereTheTerminalEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const columns = 24
	for name, test := range map[string]struct {
		env    []string
		colour bool
	}{"colours": {nil, true}, "no colours": {[]string{"NO_COLOR=1"}, false}, "dumb": {[]string{"TERM=dumb"}, false}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, text := on(t, columns, w.env(test.env...), binary, "instances").end()
			if code != 0 || strings.Contains(text, "\x1b[1mAPI") != test.colour || strings.Contains(text, "\x1b[1m") != test.colour {
				t.Errorf("ended with %d: %q", code, text)
			}
			lines := lastErased(strings.NewReplacer("\x1b[1m", "", "\x1b[31m", "", "\x1b[0m", "").Replace(strings.TrimSpace(text)))
			for _, line := range lines {
				if count := len([]rune(line)); count > columns || count == columns && !strings.HasSuffix(line, "…") {
					t.Errorf("a line has %d columns: %q", count, line)
				}
			}
			if len(lines) != 4 {
				t.Errorf("%d lines: %q", len(lines), lines)
			}
		})
	}
	watching := on(t, columns, w.env(), binary, "instances", "--watch")
	watching.await("…")
	watching.press(ctrlC)
	if code, text := watching.end(); code != 0 {
		t.Errorf("ended with %d: %q", code, text)
	}
}

// TestBenchShowsItsProgress presses Ctrl-C after some progress of a load of an hour.
func TestBenchShowsItsProgress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const columns = 100
	calls := regexp.MustCompile(`: [1-9]\d* calls, 0 failed, `)
	bench := on(t, columns, w.env(), binary, "bench", "auth.get_user", "username=admin", "--duration", "1h", "--rate", "100")
	bench.await(" of 3600 s: ")
	eventually.True(t, "a call", func() bool { return calls.MatchString(bench.read()) })
	bench.press(ctrlC)
	code, text := bench.end()
	left := strings.Join(lastErased(text), "\n")
	if !strings.Contains(left, "auth.get_user: ") || strings.Contains(left, "3600 s") {
		t.Errorf("left on the screen: %q", left)
	}
	if code != 0 && !strings.Contains(left, "interrupted before the first reply") {
		t.Errorf("ended with %d: %q", code, left)
	}
}

// TestACommandThatWaitsSaysForWhat asks an etcd that never answers.
func TestACommandThatWaitsSaysForWhat(t *testing.T) {
	t.Parallel()
	at, _ := askedEtcd(t)
	const columns = 20
	waiting := on(t, columns, at.env(), binary, "apis")
	waiting.await("\r\x1b[Kreading the regist…")
	waiting.press(ctrlC)
	code, text := waiting.end()
	if left := strings.TrimSpace(strings.Join(lastErased(text), "\n")); code != 1 || left != "onecall: interrupted" {
		t.Errorf("ended with %d, left on the screen: %q", code, left)
	}
}

// bashCompletion is what bash needs of the package bash-completion, so that the test runs
// where that is not installed.
const bashCompletion = `
_get_comp_words_by_ref() { words=("${COMP_WORDS[@]}"); cword=$COMP_CWORD; cur="${words[cword]}"; prev="${words[cword-1]}"; }
COMP_WORDBREAKS=$' \t\n'
bind 'set bell-style none'
PS1='ready> '
`

// TestBashCompletesNamesFromTheRegistry presses Tab in bash, and then runs the line.
func TestBashCompletesNamesFromTheRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Fatalf("the test needs bash: %v", err)
	}
	script := filepath.Join(t.TempDir(), "rc")
	completion := run(t, place{}, "", "completion", "bash")
	if err := os.WriteFile(script, []byte(completion.out+bashCompletion), 0o600); err != nil {
		t.Fatal(err)
	}
	const columns = 200
	shell := on(t, columns, w.env("PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"), "BASH_SILENCE_DEPRECATION_WARNING=1"), bash, "--noprofile", "--rcfile", script, "-i")
	shell.await("ready> ")
	for _, step := range []struct{ keys, want string }{
		{"onecall call au", "onecall call auth."},
		{"ch", "auth.check_password "},
		{"user", "username="},
		{"admin pass", "username=admin password="},
	} {
		shell.press(step.keys)
		tabs := 0
		eventually.True(t, step.want, func() bool { // a completion may come too late on a busy machine
			if strings.Contains(shell.read(), step.want) {
				return true
			}
			tabs++
			if tabs%50 == 1 {
				shell.press("\t")
			}
			return false
		})
	}
	shell.press("secret\n")
	shell.await(`"valid": true`)
	shell.press("exit\n")
	if code, text := shell.end(); code != 0 {
		t.Errorf("bash ended with %d: %q", code, text)
	}
}
