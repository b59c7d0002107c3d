package main_test

import (
	"strings"
	"testing"
)

// TestNamesAreCompletedFromTheRegistry asks for completions as the shells do.
func TestNamesAreCompletedFromTheRegistry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	away := silent(t)
	const noFile, noSpace = ":4", ":6"
	for name, test := range map[string]struct {
		endpoint string
		args     []string
		want     string
	}{
		"APIs":                 {w.endpoint, []string{"instances", "test."}, "test.echo test.kinds " + noFile},
		"one API only":         {w.endpoint, []string{"instances", "auth", ""}, noFile},
		"ping":                 {w.endpoint, []string{"ping", "a"}, "auth " + noFile},
		"API of an RPC":        {w.endpoint, []string{"call", "a"}, "auth. " + noSpace},
		"RPCs":                 {w.endpoint, []string{"call", "auth.p"}, "auth.promote_to_admin " + noFile},
		"RPCs to describe":     {w.endpoint, []string{"describe", "test.kinds.s"}, "test.kinds.sign_in " + noFile},
		"no streams":           {w.endpoint, []string{"call", "test.echo.w"}, noFile},
		"parameters":           {w.endpoint, []string{"call", "auth.check_password", ""}, "username= password= " + noSpace},
		"those not given":      {w.endpoint, []string{"call", "auth.check_password", "username=x", ""}, "password= " + noSpace},
		"values and JSON":      {w.endpoint, []string{"call", "test.kinds.place", "mood=MOOD_C"}, "mood=MOOD_CALM mood=MOOD_CURIOUS " + noSpace},
		"a list":               {w.endpoint, []string{"call", "test.kinds.place", "i"}, "items:= " + noSpace},
		"a file":               {w.endpoint, []string{"call", "auth.check_password", "password=@"}, ":0"},
		"etcd away":            {away, []string{"instances", ""}, noFile},
		"etcd away, RPC":       {away, []string{"call", "auth."}, noFile},
		"etcd away, parameter": {away, []string{"call", "auth.get_user", ""}, noSpace},
		"an unknown API":       {w.endpoint, []string{"call", "nope.get_user", ""}, noSpace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got string
			// Within its limit a busy machine may complete nothing: the shell's user tries again.
			for range 20 {
				completed := run(t, test.endpoint, "", append([]string{"__completeNoDesc"}, test.args...)...)
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
