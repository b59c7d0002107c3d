package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// person is a user with files of the command. Its runs have no other settings than those.
type person struct {
	t   *testing.T
	dir string
}

func newUser(t *testing.T) person {
	t.Helper()
	return person{t, t.TempDir()}
}

// file is the file with the contexts.
func (u person) file() string { return filepath.Join(u.dir, "onecall", "contexts.yaml") }

func (u person) run(env []string, args ...string) result {
	u.t.Helper()
	return runWith(u.t, append([]string{"XDG_CONFIG_HOME=" + u.dir, "HOME=" + u.dir, "APPDATA=" + u.dir}, env...), "", args...)
}

// ok runs a command that must succeed.
func (u person) ok(args ...string) string {
	u.t.Helper()
	got := u.run(nil, args...)
	if got.code != 0 || got.errs != "" {
		u.t.Fatalf("onecall %q: %+v", args, got)
	}
	return got.out
}

// TestContextsAreKeptInAFileOfTheUser makes, shows, changes, uses and deletes contexts.
func TestContextsAreKeptInAFileOfTheUser(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	if got := u.ok("context", "list"); got != "" {
		t.Errorf("at first there is %q", got)
	}
	u.ok("context", "set", "test", "--etcd", "http://a:1,http://b:2", "--namespace", "n", "--etcd-user", "adam", "--etcd-password-file", "pw", "--insecure")
	u.ok("context", "set", "other", "--etcd", "http://c:3")
	u.ok("context", "use", "test")
	if info, err := os.Stat(u.file()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file has the mode %v (%v)", info.Mode(), err)
	}
	if got, want := u.ok("context", "list", "-o", "plain"), "\tother\thttp://c:3\n*\ttest\thttp://a:1,http://b:2\tn\tadam\n"; got != want {
		t.Errorf("list: %q, want %q", got, want)
	}
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := u.ok("context", "show", "-o", "plain"), "context\ttest\netcd\thttp://a:1,http://b:2\nnamespace\tn\netcd-user\tadam\netcd-password-file\t"+filepath.Join(folder, "pw")+"\ninsecure\ttrue\n"; got != want {
		t.Errorf("show: %q, want %q", got, want)
	}
	u.ok("context", "set", "test", "--namespace", "", "--insecure=false")
	if got := u.ok("context", "show", "test", "-o", "jsonl"); strings.Contains(got, "namespace") || strings.Contains(got, "insecure") || !strings.Contains(got, `"etcdUser":"adam"`) {
		t.Errorf("after it was changed: %s", got)
	}
	u.ok("context", "delete", "test")
	if got := u.ok("context", "list", "-o", "plain"); got != "\tother\thttp://c:3\n" {
		t.Errorf("after it was deleted: %q", got)
	}
	u.ok("context", "use", "other")
	u.ok("context", "use", "--none")
	if got := u.run(nil, "context", "show"); got.code != 2 || !strings.Contains(got.errs, "no context is in use") {
		t.Errorf("without one in use: %+v", got)
	}
}

// TestSettingsComeFromFlagsThenTheEnvironmentThenTheContext reads a registry by each.
func TestSettingsComeFromFlagsThenTheEnvironmentThenTheContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	u := newUser(t)
	away := silent(t)
	u.ok("context", "set", "right", "--etcd", w.endpoint, "--namespace", w.namespace)
	u.ok("context", "set", "wrong", "--etcd", away.endpoint, "--namespace", w.namespace)
	u.ok("context", "set", "secure", "--etcd", "https://127.0.0.1:1", "--namespace", w.namespace, "--etcd-user", "adam", "--etcd-password-file", "/nofile")
	for name, test := range map[string]struct {
		use  string
		env  []string
		args []string
		code int
	}{
		"the context in use":                 {"right", nil, nil, 0},
		"--context before the one in use":    {"wrong", nil, []string{"--context", "right"}, 0},
		"the environment before a context":   {"wrong", []string{"ONECALL_ETCD_ENDPOINTS=" + w.endpoint}, nil, 0},
		"a flag before a context":            {"wrong", nil, []string{"--etcd", w.endpoint}, 0},
		"a flag before the environment":      {"wrong", []string{"ONECALL_ETCD_ENDPOINTS=" + away.endpoint}, []string{"--etcd", w.endpoint}, 0},
		"an etcd that is away":               {"wrong", nil, nil, 1},
		"no password for another etcd":       {"secure", nil, []string{"--etcd", w.endpoint}, 0},
		"a password file that is missing":    {"secure", nil, nil, 2},
		"a context that there is not":        {"right", nil, []string{"--context", "nope"}, 2},
		"a namespace, the rest of a context": {"right", []string{"ONECALL_ETCD_NAMESPACE=other"}, nil, 3},
	} {
		t.Run(name, func(t *testing.T) {
			u.ok("context", "use", test.use)
			got := u.run(test.env, append([]string{"instances", "auth", "-o", "plain"}, test.args...)...)
			served := strings.HasPrefix(got.out, "auth\t")
			if test.code == 3 { // it is another namespace, without this API
				test.code = 1
				if !strings.Contains(got.errs, `unknown API "auth"`) {
					t.Errorf("got %+v", got)
				}
			}
			if got.code != test.code || served != (got.code == 0) || strings.Count(got.errs, "\n") > 1 {
				t.Errorf("got %+v, want %d", got, test.code)
			}
		})
	}
}

// TestABrokenFileOfContextsIsOneError uses files that are no contexts, with commands that
// need them.
func TestABrokenFileOfContextsIsOneError(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"no YAML":          "{",
		"another document": "- a\n",
		"unknown setting":  "contexts:\n  a:\n    etdc: [http://a:1]\n",
		"no such context":  "current: nope\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUser(t)
			u.ok("context", "set", "x")
			if err := os.WriteFile(u.file(), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			got := u.run(nil, "apis")
			if got.code != 2 || strings.Count(got.errs, "\n") != 1 || !strings.Contains(got.errs, "context") || got.out != "" {
				t.Errorf("apis: %+v", got)
			}
			if got := u.run(nil, "__completeNoDesc", "instances", ""); got.code != 0 || got.out != ":4\n" {
				t.Errorf("a completion: %+v", got)
			}
		})
	}
}

// TestWrongContextsAreRefused uses names and arguments that are wrong.
func TestWrongContextsAreRefused(t *testing.T) {
	t.Parallel()
	u := newUser(t)
	u.ok("context", "set", "right")
	for _, args := range [][]string{
		{"context", "set", "a/b"},
		{"context", "set"},
		{"context", "use", "nope"},
		{"context", "use"},
		{"context", "use", "--none", "right"},
		{"context", "delete", "nope"},
		{"context", "show", "nope"},
		{"context", "nope"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			if got := u.run(nil, args...); got.code != 2 || strings.Count(got.errs, "\n") != 1 {
				t.Errorf("%+v", got)
			}
		})
	}
	if got := u.run(nil, "__completeNoDesc", "apis", "--context", "r"); got.out != "right\n:4\n" {
		t.Errorf("a completion: %+v", got)
	}
}
