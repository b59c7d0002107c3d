package main_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/internal/eventually"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestNamesAreCompletedFromTheRegistry asks for completions as the shells do.
func TestNamesAreCompletedFromTheRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	away := silent(t)
	const noFile, noSpace = ":4", ":6"
	for name, test := range map[string]struct {
		at   place
		args []string
		want string
	}{
		"APIs":                 {w.place, []string{"instances", "test."}, "test.echo test.kinds " + noFile},
		"one API only":         {w.place, []string{"instances", "auth", ""}, noFile},
		"ping":                 {w.place, []string{"ping", "a"}, "auth " + noFile},
		"API of an RPC":        {w.place, []string{"call", "a"}, "auth. " + noSpace},
		"RPCs":                 {w.place, []string{"call", "auth.p"}, "auth.promote_to_admin " + noFile},
		"RPCs to describe":     {w.place, []string{"describe", "test.kinds.s"}, "test.kinds.sign_in " + noFile},
		"streams":              {w.place, []string{"call", "test.echo.w"}, "test.echo.watch " + noFile},
		"parameters":           {w.place, []string{"call", "auth.check_password", ""}, "username= password= " + noSpace},
		"those not given":      {w.place, []string{"call", "auth.check_password", "username=x", ""}, "password= " + noSpace},
		"values and JSON":      {w.place, []string{"call", "test.kinds.place", "mood=MOOD_C"}, "mood=MOOD_CALM mood=MOOD_CURIOUS " + noSpace},
		"a list":               {w.place, []string{"call", "test.kinds.place", "i"}, "items:= " + noSpace},
		"a file":               {w.place, []string{"call", "auth.check_password", "password=@"}, ":0"},
		"formats":              {away, []string{"apis", "-o", ""}, "table plain json jsonl yaml " + noFile},
		"etcd away":            {away, []string{"instances", ""}, noFile},
		"etcd away, RPC":       {away, []string{"call", "auth."}, noFile},
		"etcd away, parameter": {away, []string{"call", "auth.get_user", ""}, noSpace},
		"an unknown API":       {w.place, []string{"call", "nope.get_user", ""}, noSpace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got string
			// Within its limit a busy machine may complete nothing: the shell's user tries again.
			for range 20 {
				completed := run(t, test.at, "", append([]string{"__completeNoDesc"}, test.args...)...)
				if got = strings.Join(strings.Fields(completed.out), " "); completed.code != 0 || got == test.want {
					break
				}
			}
			if got != test.want {
				t.Errorf("completed %q, want %q", got, test.want)
			}
		})
	}
}

// TestCompletionsAreCachedForAShortTime completes names that etcd no longer answers for, and
// then with a file that cannot be used.
func TestCompletionsAreCachedForAShortTime(t *testing.T) {
	t.Parallel()
	server, err := embed.Start(eventually.Context(t), embed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	at, cache := place{endpoint: server.Endpoints()[0]}, t.TempDir()
	stop := serve(t, open(t, at), func(apis grpc.ServiceRegistrar) { testv1.RegisterKindsServiceServer(apis, &kinds{}) })
	w := &world{registry: open(t, at)}
	w.await(t, "test.kinds")
	complete := func(args ...string) string {
		got := runWith(t, append(at.env(), "XDG_CACHE_HOME="+cache, "HOME="+cache, "LocalAppData="+cache), "", append([]string{"__completeNoDesc"}, args...)...)
		if got.code != 0 {
			t.Errorf("%+v", got)
		}
		return strings.Join(strings.Fields(got.out), " ")
	}
	eventually.True(t, "a completion in time", func() bool {
		return complete("call", "test.kinds.sign_in", "pass") == "password= :6" && complete("call", "test.k") == "test.kinds. :6"
	})
	stop() // which needs its etcd
	_ = server.Close()
	if got := complete("call", "test.kinds.sign_in", "pass"); got != "password= :6" {
		t.Errorf("from the cache: %q", got)
	}
	files, err := filepath.Glob(filepath.Join(cache, "*", "*.json"))
	if more, _ := filepath.Glob(filepath.Join(cache, "*", "*", "*.json")); len(more) > 0 {
		files = append(files, more...)
	}
	if err != nil || len(files) != 1 {
		t.Fatalf("the cache has the files %q (%v)", files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	hourAgo := regexp.MustCompile(`"read":"[^"]*"`).ReplaceAll(content, []byte(`"read":"`+time.Now().Add(-time.Hour).Format(time.RFC3339)+`"`))
	for name, content := range map[string][]byte{"old": hourAgo, "broken": []byte("{")} {
		if err := os.WriteFile(files[0], content, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := complete("call", "test.kinds.sign_in", "pass"); got != ":6" {
			t.Errorf("of a file that is %s: %q", name, got)
		}
	}
}

// TestTheCacheOfCompletionsIsBounded completes in a folder with more files than it may have.
func TestTheCacheOfCompletionsIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cache := t.TempDir()
	env := w.env("XDG_CACHE_HOME="+cache, "HOME="+cache, "LocalAppData="+cache)
	files := func() []string {
		var names []string
		err := filepath.WalkDir(cache, func(name string, entry os.DirEntry, err error) error {
			if err == nil && filepath.Ext(name) == ".json" && !entry.IsDir() {
				names = append(names, name)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	complete := func() bool {
		return strings.HasPrefix(runWith(t, env, "", "__completeNoDesc", "instances", "au").out, "auth\n")
	}
	eventually.True(t, "a completion in time", complete)
	first := files()
	if len(first) != 1 {
		t.Fatalf("the cache has the files %q", first)
	}
	const more, most = 20, 16
	old := time.Now().Add(-time.Hour)
	for i := range more {
		name := filepath.Join(filepath.Dir(first[0]), fmt.Sprintf("old%d.json", i))
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chtimes(name, old, old)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(first[0]); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "a completion in time", complete)
	if left := files(); len(left) != most || !slices.Contains(left, first[0]) {
		t.Errorf("the cache has %d files: %q", len(left), left)
	}
}
