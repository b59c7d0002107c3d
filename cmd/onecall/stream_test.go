package main_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/internal/eventually"
)

// TestStreamsAreLinesBothWays calls a stream of each kind.
func TestStreamsAreLinesBothWays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, test := range map[string]struct {
		args, stdin string
		want        result
	}{
		"replies": {args: "call test.echo.watch text=a count=2", want: result{out: `{"text":"a"}` + "\n" + `{"text":"a"}` + "\n"}},
		"replies, of parameters on standard input": {args: "call test.echo.watch - text=a", stdin: `{"count": 1}`, want: result{out: `{"text":"a"}` + "\n"}},
		"no replies":                 {args: "call test.echo.watch text=a count=0", want: result{}},
		"requests":                   {args: "call test.echo.collect -", stdin: `{"text": "a"}` + "\n\n" + `{"text": "b"}`, want: result{out: `{"texts":["a","b"]}` + "\n"}},
		"no request":                 {args: "call test.echo.collect -", want: result{out: `{"texts":[]}` + "\n"}},
		"one request, of parameters": {args: "call test.echo.collect text=a", want: result{out: `{"texts":["a"]}` + "\n"}},
		"parameters in all requests": {args: "call test.echo.chat - text=a", stdin: "{}\n{}\n", want: result{out: `{"text":"a"}` + "\n" + `{"text":"a"}` + "\n"}},
		"as JSON lines": {args: "call test.echo.chat - -o jsonl", stdin: `{"text": "a"}`, want: result{
			out: `{"rpc":"test.echo.chat","reply":{"text":"a"}}` + "\n" +
				`{"rpc":"test.echo.chat","outcome":"executed","code":"OK","instance":"ADDRESS","incarnation":"RANDOM","attempts":1,"millis":N}` + "\n",
		}},
		"as YAML": {args: "call test.echo.watch text=a count=1 -o yaml", want: result{
			out: "---\nrpc: test.echo.watch\nreply:\n  text: a\n---\nrpc: test.echo.watch\noutcome: executed\ncode: OK\ninstance: ADDRESS\nincarnation: RANDOM\nattempts: 1\nmillis: N\n",
		}},
		"a failure after a reply": {args: "call test.echo.chat -", stdin: `{"text": "a"}` + "\n" + `{"text": "fail"}`, want: result{
			out: `{"text":"a"}` + "\n", errs: "onecall: test.echo.chat: RESOURCE_EXHAUSTED: no more (the call ran)\n", code: 11,
		}},
		"a parameter twice": {args: "call test.echo.watch - text=a", stdin: `{"text": "b", "count": 1}`, want: result{
			errs: "onecall: text is given twice: give it once; a list is JSON, such as text:='[1, 2]'\n", code: 2,
		}},
		"an unknown parameter": {args: "call test.echo.watch txt=a count=1", want: result{
			errs: "onecall: test.echo.watch: text is missing: it takes a string; txt is no parameter: did you mean text? Write onecall call test.echo.watch text=… count=1\n", code: 10,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := run(t, w.place, test.stdin, strings.Fields(test.args)...)
			if got.out, got.errs = same(got.out), same(got.errs); got != test.want {
				t.Errorf("onecall %s:\n got %+v\nwant %+v", test.args, got, test.want)
			}
		})
	}
}

// TestAWrongLineEndsTheStream sends a line that is no request after one that is.
func TestAWrongLineEndsTheStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for line, want := range map[string]string{
		"x":             "line 2: standard input is not JSON",
		"[]":            "line 2: standard input is not a JSON object",
		`{"txt": "a"}`:  "line 2: text is missing: it takes a string; txt is no parameter: did you mean text?",
		`{"text": [1]}`: "line 2: text takes a string",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			got := run(t, w.place, `{"text": "a"}`+"\n"+line+"\n", "call", "test.echo.collect", "-")
			if !strings.Contains(got.errs, want) || strings.Count(got.errs, "\n") != 1 || got.code != 11 && got.code != 12 || got.out != "" {
				t.Errorf("got %+v, want %s", got, want)
			}
		})
	}
}

// TestAStreamEndsWithAnInterrupt interrupts a stream after its first reply.
func TestAStreamEndsWithAnInterrupt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	watching := start(t, w.env(), "call", "test.echo.watch", "text=for ever", "count=1", "-o", "json")
	eventually.Receive(t, "the handler", w.echo.watching)
	if err := watching.command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range watching.out {
		out = append(out, line)
	}
	var record struct {
		Outcome string `json:"outcome"`
		Code    string `json:"code"`
		Replies []any  `json:"replies"`
	}
	if err := json.Unmarshal([]byte(strings.Join(out, "")), &record); err != nil || record.Code != "CANCELLED" {
		t.Errorf("printed %q (%v)", out, err)
	}
	if said := eventually.Receive(t, "the error", watching.errs); !strings.Contains(said, "test.echo.watch") {
		t.Errorf("said %q", said)
	}
	if _ = watching.command.Wait(); watching.command.ProcessState.ExitCode() < 11 {
		t.Errorf("ended with %d", watching.command.ProcessState.ExitCode())
	}
}

// TestVerboseCallsSayWhereAndHow looks at the log of calls and at the call for grpcurl.
func TestVerboseCallsSayWhereAndHow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, test := range map[string]struct {
		args, stdin, grpcurl string
	}{
		"unary":    {"call auth.check_password username=admin password=secret -v", "", `grpcurl -plaintext -d '{"password":"…","username":"admin"}' ADDRESS auth.v1.AuthService/CheckPassword`},
		"requests": {"call test.echo.collect - -v", `{"text": "a"}`, `grpcurl -plaintext -d @ ADDRESS onecall.test.v1.EchoService/Collect`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := run(t, w.place, test.stdin, strings.Fields(test.args)...)
			said := same(got.errs)
			for _, want := range []string{`msg="made a call"`, "code=OK outcome=executed took=", "attempts=1 instance=ADDRESS call=", test.grpcurl} {
				if !strings.Contains(said, want) {
					t.Errorf("-v does not say %s:\n%s", want, said)
				}
			}
		})
	}
}
