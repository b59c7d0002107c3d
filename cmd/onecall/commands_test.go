package main_test

import (
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/internal/eventually"
)

var quiet = slog.New(slog.DiscardHandler)

const usernameMissing = `onecall: auth.check_password: username is missing: it takes a string; usrname is no parameter: did you mean username? Write onecall call auth.check_password username=… password=…` + "\n"

// TestTheCommandsPrintTheirDataAndErrors compares whole outputs, without what differs from
// run to run.
func TestTheCommandsPrintTheirDataAndErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	away := silent(t)
	refused := `etcd at http://ADDRESS, since TIME: rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp ADDRESS: connect: connection refused": is etcd running, and is this its client port?`
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		at    place
		stdin string
		args  string
		want  result
	}{
		"apis": {args: "apis -o plain", want: result{
			out: "auth\tauth.v1.AuthService\t1\t0\t\tfDWXX5pB\n" +
				"test.echo\tonecall.test.v1.EchoService\t1\t0\t\t" + schemaOf(t, w, "test.echo") + "\n" +
				"test.kinds\tonecall.test.v1.KindsService\t1\t0\t\t" + schemaOf(t, w, "test.kinds") + "\n",
		}},
		"apis as YAML": {args: "apis -o yaml", want: result{
			out: apiYAML("auth", "auth.v1.AuthService") + apiYAML("test.echo", "onecall.test.v1.EchoService") + apiYAML("test.kinds", "onecall.test.v1.KindsService"),
		}},
		"apis, etcd away": {at: away, args: "apis", want: result{errs: "onecall: the registry can't be reached: " + refused + "\n", code: 1}},
		"instances": {args: "instances auth", want: result{
			out: "API  ADDRESS  STATE  VERSION  ZONE  AGE  SCHEMA  REACHABLE\nauth  ADDRESS  serving  west  DURATION  fDWXX5pB  DURATION\n",
		}},
		"instances as JSON lines": {args: "instances auth -o jsonl", want: result{
			out: `{"api":"auth","address":"ADDRESS","state":"serving","zone":"west","started":"TIME","schema":"RANDOM","incarnation":"RANDOM","service":"auth.v1.AuthService","reachable":true,"roundTripMillis":N}` + "\n",
		}},
		"instances of an unknown API": {args: "instances aut", want: result{
			errs: `onecall: unknown API "aut": it was never served; check its name and that a service of it was started (did you mean auth? the registry knows auth, test.echo, test.kinds)` + "\n", code: 1,
		}},
		"instances, etcd away": {at: away, args: "instances", want: result{errs: "onecall: the registry can't be reached: " + refused + "\n", code: 1}},
		"describe an RPC": {args: "describe auth.get_user", want: result{out: `// AuthService manages the accounts of a site: the users and their rights.
auth (auth.v1.AuthService)

// GetUser returns an account.
auth.get_user, within DURATION, NO_SIDE_EFFECTS
  parameters
  // The account's natural key.
  username string, required, string.min_len: 1, string.max_len: 64
  reply
  // The account.
  user auth.v1.User
  // The primary key, more than zero, which never changes.
  id int64
  // The natural key.
  username string
  // Whether the account is an administrator's.
  admin bool

onecall call auth.get_user username=…
`}},
		"describe an RPC as JSON": {args: "describe auth.reset_password -o jsonl", want: result{
			out: `{"api":"auth","service":"auth.v1.AuthService","comment":"AuthService manages the accounts of a site: the users and their rights.","rpcs":[` +
				`{"name":"auth.reset_password","method":"/auth.v1.AuthService/ResetPassword","comment":"ResetPassword sets a new random password for an account, which replaces the\n old one at once.","timeout":"DURATION","idempotency":"IDEMPOTENCY_UNKNOWN","clientStream":false,"serverStream":false,` +
				`"parameters":[{"name":"username","type":"string","required":true,"rules":["string.min_len: 1","string.max_len: 64"],"comment":"The account's natural key."}],` +
				`"reply":[{"name":"password","type":"string","required":true,"redacted":true,"comment":"The new password, which the service itself keeps only as a hash."}],` +
				`"example":"onecall call auth.reset_password username=…"}]}` + "\n",
		}},
		"describe an unknown RPC": {args: "describe auth.get", want: result{
			errs: `onecall: auth.get: API "auth" has no such RPC: it has auth.check_password, auth.reset_password, auth.get_user, auth.promote_to_admin` + "\n", code: 1,
		}},
		"describe, etcd away": {at: away, args: "describe auth", want: result{errs: "onecall: the registry can't be reached: " + refused + "\n", code: 1}},
		"ping":                {args: "ping auth -c 2 -o plain", want: result{out: "auth\tADDRESS\tserving\t2\t2" + strings.Repeat("\tDURATION", 3) + "\n"}},
		"ping of an unknown API": {args: "ping nope", want: result{
			errs: `onecall: unknown API "nope": it was never served; check its name and that a service of it was started (the registry knows auth, test.echo, test.kinds)` + "\n", code: 1,
		}},
		"ping with no count":                {args: "ping auth -c 0", want: result{errs: "onecall: --count 0: give 1 or more\n", code: 2}},
		"ping, etcd away":                   {at: away, args: "ping auth", want: result{errs: "onecall: the registry can't be reached: " + refused + "\n", code: 1}},
		"call":                              {args: "call auth.check_password username=admin password=secret", want: result{out: "{\n  \"valid\": true\n}\n"}},
		"call with a file":                  {args: "call auth.check_password username=adam password=@" + password + " -o plain", want: result{out: `{"valid":false}` + "\n"}},
		"call with standard input":          {args: "call auth.check_password - password=secret -o plain", stdin: `{"username": "admin"}`, want: result{out: `{"valid":true}` + "\n"}},
		"call with wrong standard input":    {args: "call auth.check_password -", stdin: `[1]`, want: result{errs: "onecall: standard input is not a JSON object with the parameters by name\n", code: 2}},
		"call with a value that no JSON is": {args: "call auth.check_password username:=admin", want: result{errs: "onecall: username: the value is not JSON: invalid character 'a' looking for beginning of value\n", code: 2}},
		"call as JSON": {args: "call auth.get_user username=admin -o jsonl", want: result{
			out: `{"rpc":"auth.get_user","outcome":"executed","code":"OK","instance":"ADDRESS","incarnation":"RANDOM","attempts":1,"millis":N,"reply":{"user":{"admin":true,"id":1,"username":"admin"}}}` + "\n",
		}},
		"call that fails": {args: "call auth.get_user username=nobody", want: result{errs: `onecall: auth.get_user: NOT_FOUND: no such account: username "nobody" (the call ran)` + "\n", code: 11}},
		"call that fails, as JSON": {args: "call auth.get_user username=nobody -o jsonl", want: result{
			out:  `{"rpc":"auth.get_user","outcome":"executed","code":"NOT_FOUND","message":"no such account: username \"nobody\"","instance":"ADDRESS","incarnation":"RANDOM","attempts":1,"millis":N}` + "\n",
			errs: `onecall: auth.get_user: NOT_FOUND: no such account: username "nobody" (the call ran)` + "\n", code: 11,
		}},
		"call by position": {args: "call auth.check_password admin secret", want: result{
			errs: `onecall: "admin" has no name: parameters go by name only: write onecall call auth.check_password username=… password=…` + "\n", code: 2,
		}},
		"call with a wrong parameter":   {args: "call auth.check_password usrname=admin password=secret", want: result{errs: usernameMissing, code: 10}},
		"call with a parameter twice":   {args: "call auth.get_user username=a username=b", want: result{errs: "onecall: username is given twice: give it once; a list is JSON, such as username:='[1, 2]'\n", code: 2}},
		"call with text for a message":  {args: "call test.kinds.place customer_name=x items=y", want: result{errs: "onecall: test.kinds.place: items takes a repeated onecall.test.v1.Item: give JSON, as items:='…'\n", code: 2}},
		"call that breaks a rule":       {args: "call auth.get_user username=", want: result{errs: "onecall: auth.get_user: the request breaks the API's rules: username: must be at least 1 characters [string.min_len] (the call was not sent)\n", code: 10}},
		"call of a stream":              {args: "call test.echo.watch text=x count=2", want: result{out: `{"text":"x"}` + "\n" + `{"text":"x"}` + "\n"}},
		"call of an unknown RPC":        {args: "call auth.get_usr username=x", want: result{errs: "onecall: auth.get_usr: API \"auth\" has no such RPC: did you mean auth.get_user?\n", code: 10}},
		"call, etcd away":               {at: away, args: "call auth.get_user username=admin", want: result{errs: "onecall: auth.get_user: the registry can't be reached: " + refused + " (the call was not sent)\n", code: 10}},
		"call with a wrong header":      {args: "call auth.get_user username=admin -H x", want: result{errs: "onecall: --header \"x\" is not \"name: value\"\n", code: 2}},
		"an unknown command":            {args: "ap", want: result{errs: "onecall: unknown command \"ap\" for \"onecall\"\n", code: 2}},
		"an unknown flag":               {args: "apis --foo", want: result{errs: "onecall: unknown flag: --foo\n", code: 2}},
		"an unknown format":             {args: "apis -o xml", want: result{errs: "onecall: --output \"xml\": a format is one of table, plain, json, jsonl, yaml\n", code: 2}},
		"no RPC to call":                {args: "call", want: result{errs: "onecall: requires at least 1 arg(s), only received 0\n", code: 2}},
		"a wrong URL":                   {args: "apis --etcd localhost", want: result{errs: "onecall: --etcd: \"localhost\" is not an http or https URL: write it like http://127.0.0.1:2379\n", code: 2}},
		"another namespace, no API":     {args: "apis --namespace other -o json", want: result{out: "[]\n"}},
		"settle without a key":          {args: "settle x", want: result{errs: "onecall: --token-key is missing: give the file with the key of the program that made the call\n", code: 2}},
		"a key that is no hexadecimals": {args: "settle x --token-key " + password, want: result{errs: "onecall: --token-key: " + password + " has no hexadecimal digits: make a key with: openssl rand -hex 32\n", code: 2}},
		"TLS files that are missing":    {args: "call auth.get_user username=x --tls-ca /nofile", want: result{errs: "onecall: --tls-ca, --tls-cert, --tls-key: open /nofile: no such file or directory\n", code: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if test.at == (place{}) {
				test.at = w.place
			}
			got := run(t, test.at, test.stdin, strings.Fields(test.args)...)
			got.out, got.errs = same(got.out), same(got.errs)
			if want := (result{same(test.want.out), same(test.want.errs), test.want.code}); got != want {
				t.Errorf("onecall %s:\n got %+v\nwant %+v", test.args, got, want)
			}
		})
	}
}

func apiYAML(api, service string) string {
	return "- api: " + api + "\n  service: " + service + "\n  serving: 1\n  draining: 0\n  versions: []\n  schemas:\n  - RANDOM\n"
}

// schemaOf returns how a table shows the schema of an API.
func schemaOf(t *testing.T, w *world, api string) string {
	t.Helper()
	got := run(t, w.place, "", "instances", api, "-o", "jsonl")
	var read struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal([]byte(got.out), &read); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	return read.Schema[:8]
}

const scalars = `{"bool_value":true,"bytes_value":"AP8=","double_value":0.5,"fixed32_value":1,"fixed64_value":18446744073709551615,"float_value":0.25,"int32_value":-1,"int64_value":-9223372036854775808,"sfixed32_value":2,"sfixed64_value":3,"sint32_value":4,"sint64_value":5,"string_value":"é","uint32_value":6,"uint64_value":7}`

// TestParametersOfEveryKindArriveAsTheyWereGiven sends values as text and as JSON, and reads
// them in the reply.
func TestParametersOfEveryKindArriveAsTheyWereGiven(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := run(t, w.place, "", "describe", "test.kinds.mirror", "-o", "json")
	if got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, value := range []string{
		`{"scalars":` + scalars + `}`,
		`{"optionals":{"item":{"name":"a","price":2}},"lists":{"bytes_values":["AP8="],"int64_values":[1,2]},"maps":{"bool_keys":{"true":{"name":"x","price":1}},"int32_keys":{"-1":"AP8="},"uint64_keys":{"18446744073709551615":1.5}}}`,
		`{"well_known":{"anything":{"@type":"type.googleapis.com/onecall.test.v1.Item","name":"x","price":1},"bool_wrapper":false,"double_wrapper":1.5,"float_wrapper":2.5,"int32_wrapper":-1,"list_value":[1,"x"],"string_wrapper":"s","uint32_wrapper":3,"uint64_wrapper":18446744073709551615,"bytes_wrapper":"AP8=","duration":"90.5s","empty":{},"field_mask":["a","b"],"int64_wrapper":7,"numbers":[1],"object":{"a":[1,null,"x"]},"timestamp":"2026-01-02T03:04:05.5Z","timestamps":["2026-01-02T03:04:05Z"],"value":null}}`,
	} {
		value = strings.Replace(value, "{", `{"inner":{"state":"STATE_ON"},"item":{"name":"b","price":1},"mood":"MOOD_CALM",`, 1)
		if !strings.Contains(value, "scalars") {
			value = strings.Replace(value, "{", `{"scalars":`+scalars+`,`, 1)
		}
		sent := run(t, w.place, "", "call", "test.kinds.mirror", "kinds:="+value, "-o", "plain")
		var want, got any
		if err := json.Unmarshal([]byte(`{"kinds":`+value+`}`), &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(sent.out), &got); err != nil || sent.code != 0 || !subset(want, got) {
			t.Errorf("sent %s, got %+v (%v)", value, sent, err)
		}
	}
	texts := run(t, w.place, "", "call", "test.kinds.place", "customer_name=7", `address:={"street":"s","code":"c"}`, "mood=MOOD_SOUR", "note=@"+os.DevNull, "-v")
	if texts.code != 11 || !strings.Contains(texts.errs, `{"address":{"code":"c","street":"s"},"customer_name":"7","mood":"MOOD_SOUR","note":""}`) {
		t.Errorf("got %+v", texts)
	}
}

// subset reports whether a value has all that is wanted. A reply has default values too.
func subset(want, got any) bool {
	switch want := want.(type) {
	case map[string]any:
		in, ok := got.(map[string]any)
		for key, value := range want {
			if inner, has := in[key]; !has || !subset(value, inner) {
				return false
			}
		}
		return ok
	default:
		return reflect.DeepEqual(want, got)
	}
}

// TestTheEnvironmentAndFlagsChooseTheRegistry runs the command with variables alone, with a
// flag that has precedence, and with a variable that is not known.
func TestTheEnvironmentAndFlagsChooseTheRegistry(t *testing.T) {
	t.Parallel()
	endpoint, away := newPlace().endpoint, silent(t).endpoint
	for name, test := range map[string]struct {
		env  []string
		args []string
		code int
	}{
		"variable":               {[]string{"ONECALL_ETCD_ENDPOINTS=" + endpoint}, []string{"apis"}, 0},
		"flag before variable":   {[]string{"ONECALL_ETCD_ENDPOINTS=" + away}, []string{"apis", "--etcd", endpoint}, 0},
		"unknown variable":       {[]string{"ONECALL_ETCD_ENDPOINT=" + endpoint}, []string{"apis"}, 2},
		"unknown of a bus":       {[]string{"ONECALL_ETCD_ENDPOINTS=" + endpoint, "ONECALL_ZOME=x"}, []string{"call", "auth.get_user"}, 2},
		"two sources of the TLS": {[]string{"ONECALL_INSECURE=perhaps", "ONECALL_ETCD_ENDPOINTS=" + endpoint}, []string{"call", "auth.get_user"}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			command := exec.CommandContext(eventually.Context(t), binary, test.args...)
			command.Env = environment(test.env...)
			if got := finish(t, command, ""); got.code != test.code {
				t.Errorf("got %+v, want the code %d", got, test.code)
			}
		})
	}
}
