package schematest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/memory"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework/frameworktest"
	"github.com/onecall-dev/onecall/framework/schematest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/schema"
)

// recording is a test whose errors are recorded.
type recording struct {
	testing.TB

	errors []string
}

func (r *recording) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func (r *recording) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// errorsOf returns the errors of a test.
func errorsOf(t *testing.T, test func(tb testing.TB)) []string {
	t.Helper()
	tb := &recording{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		test(tb)
	}()
	<-done
	return tb.errors
}

// want compares the errors of a test with what they must contain.
func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("the test failed with\n%s\nwant %d errors: %q", strings.Join(got, "\n"), len(want), want)
	}
	for i := range got {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("the test failed with %q, want %q", got[i], want[i])
		}
	}
}

// edited returns the auth API after a change.
func edited(t *testing.T, change func(*descriptorpb.FileDescriptorProto)) protoreflect.ServiceDescriptor {
	t.Helper()
	described := protodesc.ToFileDescriptorProto(authv1.File_auth_v1_auth_proto)
	change(described)
	file, err := protodesc.NewFile(described, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return file.Services().Get(0)
}

// published registers an API and returns a file of its schemas.
func published(t *testing.T, versions ...protoreflect.ServiceDescriptor) string {
	t.Helper()
	registry := memory.New()
	for i, service := range versions {
		digest, err := schema.Digest(service)
		if err != nil {
			t.Fatal(err)
		}
		packed, err := schema.Of(service).Pack()
		if err != nil {
			t.Fatal(err)
		}
		instance := discoverytest.Instance("auth", fmt.Sprintf("10.0.0.%d:1", i+1))
		instance.Service, instance.Version, instance.Schema, instance.Descriptors = string(service.FullName()), fmt.Sprintf("v%d", i+1), digest, packed
		discoverytest.Register(t, registry, instance)
	}
	path := filepath.Join(t.TempDir(), "production.schema")
	if err := schematest.Dump(t.Context(), registry, path, "auth"); err != nil {
		t.Fatal(err)
	}
	return path
}

// usedBy makes a file of schemas one of a caller.
func usedBy(t *testing.T, path, caller string, rpcs ...string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var content map[string]any
	if err := json.Unmarshal(data, &content); err != nil {
		t.Fatal(err)
	}
	content["caller"] = caller
	content["apis"].([]any)[0].(map[string]any)["rpcs"] = rpcs
	if data, err = json.Marshal(content); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

const (
	userMessage          = 8
	checkPasswordRequest = 0
	getUser              = 2
)

// changes are changes of the auth API, and what breaks for callers that have not changed,
// and for services that have not.
var changes = map[string]struct {
	change  func(*descriptorpb.FileDescriptorProto)
	callers []string // errors of Fits, in the order of the .proto
	service []string // errors of FitsCaller for a caller that has changed
}{
	"nothing": {func(*descriptorpb.FileDescriptorProto) {}, nil, nil},
	"a field that the other side does not have": {
		func(f *descriptorpb.FileDescriptorProto) { add(f.GetMessageType()[userMessage]) }, nil,
		[]string{
			"the caller shop breaks: auth.get_user: reply.user.more is required for the caller, and gone for this service",
			"the caller shop breaks: auth.promote_to_admin: reply.user.more is required for the caller, and gone for this service",
		},
	},
	"a field that two RPCs share": {
		func(f *descriptorpb.FileDescriptorProto) { f.MessageType[userMessage].Field[2].Number = proto.Int32(7) },
		[]string{
			"this caller breaks with auth (auth.v1.AuthService, version v1) in production.schema: auth.get_user: reply.user.admin is number 3 for this caller, and number 7 for the service",
			"auth.promote_to_admin: reply.user.admin is number 3 for this caller, and number 7 for the service",
		},
		[]string{
			"the caller shop breaks: auth.get_user: reply.user.admin is number 7 for the caller, and number 3 for this service",
			"the caller shop breaks: auth.promote_to_admin: reply.user.admin is number 7",
		},
	},
	"the name of a field": {
		func(f *descriptorpb.FileDescriptorProto) {
			f.MessageType[checkPasswordRequest].Field[0].Name, f.MessageType[checkPasswordRequest].Field[0].JsonName = new("login"), new("login")
		},
		[]string{"auth.check_password: request.username is number 1 for this caller, and named login for the service"},
		[]string{"the caller shop breaks: auth.check_password: request.login is number 1 for the caller, and named username for this service"},
	},
	"an RPC is gone": {
		func(f *descriptorpb.FileDescriptorProto) {
			f.Service[0].Method = slices.Delete(f.GetService()[0].GetMethod(), getUser, getUser+1)
		},
		[]string{"auth.get_user is an RPC for this caller, and gone for the service"},
		nil,
	},
}

// add adds a field to a message.
func add(message *descriptorpb.DescriptorProto) {
	message.Field = append(message.Field, &descriptorpb.FieldDescriptorProto{
		Name: new("more"), JsonName: new("more"), Number: proto.Int32(99),
		Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	})
}

func TestWhatBreaksFailsTheTest(t *testing.T) {
	t.Parallel()
	for name, test := range changes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := published(t, edited(t, test.change))
			want(t, errorsOf(t, func(tb testing.TB) {
				tb.Helper()
				schematest.Fits(tb, path)
			}), test.callers...)
			usedBy(t, path, "shop", "auth.check_password", "auth.get_user", "auth.promote_to_admin")
			want(t, errorsOf(t, func(tb testing.TB) {
				tb.Helper()
				schematest.FitsCaller(tb, path)
			}), test.service...)
		})
	}
}

func TestOnlyWhatIsUsedCanBreak(t *testing.T) {
	t.Parallel()
	path := published(t, edited(t, changes["a field that two RPCs share"].change))
	for rpc, breaks := range map[string][]string{
		"auth.check_password": nil, authv1.AuthService_ResetPassword_FullMethodName: nil,
		"auth.promote_to_admin": {"auth.promote_to_admin: reply.user.admin is number 3 for this caller, and number 7 for the service"},
	} {
		want(t, errorsOf(t, func(tb testing.TB) {
			tb.Helper()
			schematest.Fits(tb, path, rpc)
		}), breaks...)
	}
	usedBy(t, path, "shop", "auth.check_password")
	schematest.FitsCaller(t, path)
}

func TestEachVersionInTheRegistryMustFit(t *testing.T) {
	t.Parallel()
	same, other := edited(t, changes["nothing"].change), edited(t, changes["the name of a field"].change)
	want(t, errorsOf(t, func(tb testing.TB) {
		tb.Helper()
		schematest.Fits(tb, published(t, same, same, other))
	}), "this caller breaks with auth (auth.v1.AuthService, version v3)")
}

// TestTheSchemasOfARunningService dumps what a service publishes by itself.
func TestTheSchemasOfARunningService(t *testing.T) {
	t.Parallel()
	kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, authv1.UnimplementedAuthServiceServer{})
	})
	production, shop := filepath.Join(t.TempDir(), "production.schema"), filepath.Join(t.TempDir(), "shop.schema")
	if err := schematest.Dump(t.Context(), kit.Registry(), production, "auth"); err != nil {
		t.Fatal(err)
	}
	schematest.Fits(t, production)
	schematest.Fits(t, production, "auth.get_user", authv1.AuthService_CheckPassword_FullMethodName)
	if err := schematest.DumpCalls(shop, "shop", "auth.get_user", authv1.AuthService_CheckPassword_FullMethodName); err != nil {
		t.Fatal(err)
	}
	schematest.FitsCaller(t, shop)
}

func TestMistakesFailTheTest(t *testing.T) {
	t.Parallel()
	production, shop := published(t, edited(t, changes["nothing"].change)), published(t, edited(t, changes["nothing"].change))
	usedBy(t, shop, "shop", "auth.get_user")
	write := func(content string) string {
		path := filepath.Join(t.TempDir(), "bad.schema")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	api := `{"api": "ghost", "service": "ghost.v1.Ghost", "schema": "x", "descriptors": "AAAA"}`
	for name, test := range map[string]struct {
		test func(tb testing.TB)
		want string
	}{
		"no file":           {func(tb testing.TB) { tb.Helper(); schematest.Fits(tb, "testdata/ghost.schema") }, "no such file"},
		"another file":      {func(tb testing.TB) { tb.Helper(); schematest.Fits(tb, "doc.go") }, "is no file of schemas"},
		"an empty file":     {func(tb testing.TB) { tb.Helper(); schematest.Fits(tb, write("{}")) }, "has no API"},
		"not linked":        {func(tb testing.TB) { tb.Helper(); schematest.Fits(tb, write(`{"apis": [`+api+`]}`)) }, "no API of "},
		"a caller's file":   {func(tb testing.TB) { tb.Helper(); schematest.Fits(tb, shop) }, "test it with FitsCaller"},
		"a service's file":  {func(tb testing.TB) { tb.Helper(); schematest.FitsCaller(tb, production) }, "test it with Fits"},
		"an unknown RPC":    {func(tb testing.TB) { tb.Helper(); schematest.Fits(tb, production, "auth.ghost") }, `no RPC "auth.ghost" is linked`},
		"an RPC of another": {func(tb testing.TB) { tb.Helper(); schematest.Fits(tb, production, "/onecall.v1.Calls/Settle") }, "has no schema of onecall.v1.Calls"},
		"a gone service": {func(tb testing.TB) {
			tb.Helper()
			schematest.FitsCaller(tb, write(`{"caller": "shop", "apis": [`+api+`]}`))
		}, "the caller shop breaks: it uses ghost (ghost.v1.Ghost), and no such service"},
		"broken descriptors": {func(tb testing.TB) {
			tb.Helper()
			schematest.Fits(tb, write(`{"apis": [{"api": "auth", "service": "auth.v1.AuthService", "schema": "x", "descriptors": "AAAA"}]}`))
		}, "descriptors of auth.v1.AuthService"},
		"another name": {func(tb testing.TB) {
			tb.Helper()
			schematest.Fits(tb, write(strings.Replace(contentOf(t, production), `"api": "auth"`, `"api": "login"`, 1)), "auth.get_user")
		}, "the API of auth.get_user is named auth for this caller, and named login for the service"},
	} {
		t.Run(name, func(t *testing.T) { want(t, errorsOf(t, test.test), test.want) })
	}
}

func contentOf(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWhatCannotBeDumpedIsAnError(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.schema")
	registry := memory.New()
	discoverytest.Register(t, registry, discoverytest.Instance("plain", "10.0.0.1:1"))
	broken := discoverytest.Instance("broken", "10.0.0.2:1")
	broken.Schema, broken.Descriptors = "x", "no descriptors"
	discoverytest.Register(t, registry, broken)
	away := frameworktest.New(t, nil).Registry()
	away.Away()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"no name":                      {schematest.Dump(t.Context(), registry, path), "there is no API"},
		"an unknown API":               {schematest.Dump(t.Context(), registry, path, "ghost"), `API "ghost": unknown API`},
		"no schema":                    {schematest.Dump(t.Context(), registry, path, "plain"), "10.0.0.1:1 publishes no schema"},
		"a broken schema":              {schematest.Dump(t.Context(), registry, path, "broken"), "10.0.0.2:1: descriptors of broken.v1.Service"},
		"a registry that is away":      {schematest.Dump(ended, away, path, "auth"), context.Canceled.Error()},
		"no caller":                    {schematest.DumpCalls(path, "", "auth.get_user"), "give the name of the caller"},
		"no RPC":                       {schematest.DumpCalls(path, "shop"), "the RPCs that it uses"},
		"an RPC that is not linked in": {schematest.DumpCalls(path, "shop", "auth.ghost"), `no RPC "auth.ghost" is linked`},
	} {
		if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, test.err, test.want)
		}
	}
	err := schematest.Dump(t.Context(), registry, path, "ghost")
	if _, unknown := errors.AsType[*discovery.UnknownAPIError](err); !unknown {
		t.Errorf("Dump = %v, want the registry's error", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("a file was written")
	}
	// A registry that comes back is waited for.
	kit := frameworktest.New(t, func(apis grpc.ServiceRegistrar) {
		authv1.RegisterAuthServiceServer(apis, authv1.UnimplementedAuthServiceServer{})
	})
	kit.Registry().Away()
	dumped := make(chan error, 1)
	go func() { dumped <- schematest.Dump(t.Context(), kit.Registry(), path, "auth") }()
	kit.Registry().Back()
	if err := eventually.Receive(t, "the end of Dump", dumped); err != nil {
		t.Error(err)
	}
}
