package encode_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/internal/protoargs/encode"
)

func TestSplitName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]string{
		"auth.check_password":                {"auth", "check_password"},
		"billing.invoices.list":              {"billing.invoices", "list"},
		"auth.v1.AuthService.check_password": {"auth.v1.AuthService", "check_password"},
		"auth.check_password.x":              {"auth.check_password", "x"},
		"a.get_http2_status":                 {"a", "get_http2_status"},
	} {
		t.Run(name, func(t *testing.T) {
			if api, rpc, err := encode.SplitName(name); err != nil || api != want[0] || rpc != want[1] {
				t.Errorf("%s is %q and %q, %v", name, api, rpc, err)
			}
		})
	}
}

func TestSplitNameRefuses(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"":                             `"": no RPC has such a name: the name is empty`,
		"auth":                         `"auth": no RPC has such a name: it has no RPC, only one word`,
		"auth.":                        "the RPC is missing after the dot",
		".check_password":              "the API is missing before the dot",
		".":                            "the API is missing before the dot",
		"auth..x":                      "nothing between two dots",
		"_private":                     "it has no RPC",
		"auth._private":                "begins with an underscore is private",
		"_auth.check":                  "begins with an underscore is private",
		"auth.__":                      "begins with an underscore is private",
		"auth.2fa":                     "begins with a letter, not with a digit",
		"auth check_password":          "there is a blank at byte 4",
		" auth.check_password":         "there is a blank at byte 0",
		"auth.check_password\n":        "there is a blank at byte 19",
		"/auth.v1.AuthService/GetUser": "a slash is for gRPC's path; write auth.v1.AuthService.get_user",
		"/" + strings.Repeat("long.", 20) + "Service/Get": "write " + strings.Repeat("long.", 20) + "Service.get",
		"auth/check_password":                             "a slash is for gRPC's path; write auth.check_password",
		"//":                                              "a slash is for gRPC's path; write a name such as auth.check_password",
		"auth.CheckPassword":                              "an RPC is named in snake_case; write auth.check_password",
		"a.GetHTTPStatus":                                 "write a.get_http_status",
		"auth.checkPassword":                              "write auth.check_password",
		"auth.check-password":                             "a hyphen is part of no name; write auth.check_password",
		"auth.chéck":                                      `'é' is part of no name`,
		"auth.сheck":                                      `'с' is part of no name`, // a Cyrillic letter
		"auth.check\x00":                                  `'\x00' is part of no name`,
		"auth.\xff":                                       "not valid UTF-8",
		"auth." + strings.Repeat("a", 252):                "it has 257 bytes, and a name has at most 256",
		strings.Repeat("é.", 1<<20):                       "bytes, and a name has at most 256",
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := encode.SplitName(name)
			var bad *encode.NameError
			if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
				t.Errorf("%.40q: %v, want %q", name, err, want)
				return
			}
			if status.Code(err) != codes.InvalidArgument || len(err.Error()) > 500 || len(bad.Name) > 200 {
				t.Errorf("%.40q: code %v, %d bytes: %v", name, status.Code(err), len(err.Error()), err)
			}
		})
	}
}

func FuzzSplitName(f *testing.F) {
	for _, name := range []string{"", "auth", "auth.check_password", "/a.B/C", "a.B", "a..b", "a-b.c", "a.\xff", "_a.b"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		api, rpc, err := encode.SplitName(name)
		if err != nil {
			if text := err.Error(); len(text) > 700 || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r\x00") {
				t.Fatalf("the error is not fit to print: %q", text)
			}
			return
		}
		if api+"."+rpc != name || api == "" || rpc == "" || strings.Contains(rpc, ".") || rpc != strings.ToLower(rpc) {
			t.Fatalf("%q became %q and %q", name, api, rpc)
		}
	})
}
