package contract_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/onecall-dev/onecall/internal/contract"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// file returns the descriptor of a .proto file with one message, Message.
func file(t *testing.T, name, pkg string, services ...*descriptorpb.ServiceDescriptorProto) protoreflect.FileDescriptor {
	t.Helper()
	described := &descriptorpb.FileDescriptorProto{
		Name:        new(name),
		Syntax:      new("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Message")}},
		Service:     services,
	}
	message := ".Message"
	if pkg != "" {
		described.Package = new(pkg)
		message = "." + pkg + ".Message"
	}
	for _, service := range services {
		for _, method := range service.GetMethod() {
			method.InputType, method.OutputType = new(message), new(message)
		}
	}
	built, err := protodesc.NewFile(described, nil)
	if err != nil {
		t.Fatal(err)
	}
	return built
}

// service returns a service; api is its option, nil for none.
func service(name string, api *onecallv1.ApiOptions, methods ...*descriptorpb.MethodDescriptorProto) *descriptorpb.ServiceDescriptorProto {
	described := &descriptorpb.ServiceDescriptorProto{Name: new(name), Method: methods}
	if api != nil {
		described.Options = &descriptorpb.ServiceOptions{}
		proto.SetExtension(described.GetOptions(), onecallv1.E_Api, api)
	}
	return described
}

// method returns a method; rpc is its option, nil for none.
func method(name string, rpc *onecallv1.RpcOptions) *descriptorpb.MethodDescriptorProto {
	described := &descriptorpb.MethodDescriptorProto{Name: new(name)}
	if rpc != nil {
		described.Options = &descriptorpb.MethodOptions{}
		proto.SetExtension(described.GetOptions(), onecallv1.E_Rpc, rpc)
	}
	return described
}

func named(name string) *onecallv1.ApiOptions { return &onecallv1.ApiOptions{Name: new(name)} }

// read reads the contract of the only service of package shop.v1.
func read(t *testing.T, described *descriptorpb.ServiceDescriptorProto) (*contract.API, error) {
	t.Helper()
	return contract.FromDescriptor(file(t, "shop/v1/shop.proto", "shop.v1", described).Services().Get(0))
}

// wantFault fails unless err is a *contract.Error for subject whose text contains all parts.
func wantFault(t *testing.T, err error, subject string, parts ...string) {
	t.Helper()
	var fault *contract.Error
	if !errors.As(err, &fault) {
		t.Fatalf("error = %v (%T), want a *contract.Error", err, err)
	}
	if fault.Subject != subject {
		t.Errorf("the subject is %q, want %q", fault.Subject, subject)
	}
	for _, part := range append(parts, subject) {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error = %q, want it to hold %q", err, part)
		}
	}
}

func TestAnAPIGoesByTheNameInItsOption(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"auth", "a", "billing.invoices", "a1.b2.c3", "snake_case", "a_", "defaults", "default_", "defaults.x", "my.default"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api, err := read(t, service("ShopService", named(name), method("Buy", nil)))
			if err != nil {
				t.Fatal(err)
			}
			if api.Name != name || api.Service != "shop.v1.ShopService" || api.RPCs[0].Name != name+".buy" || api.RPCs[0].Method != "/shop.v1.ShopService/Buy" {
				t.Errorf("contract = %+v", api)
			}
		})
	}
}

func TestABadNameIsAFaultOfTheService(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ name, problem string }{
		"no name at all":                  {"", "is empty"},
		"an upper-case letter":            {"Auth", `"Auth" is not a bus name`},
		"an upper-case letter inside":     {"myAuth", `"myAuth" is not a bus name`},
		"a leading digit":                 {"1auth", `"1auth" is not a bus name`},
		"a leading digit after a dot":     {"auth.1", `"auth.1" is not a bus name`},
		"a leading underscore":            {"_auth", `"_auth" is not a bus name`},
		"a leading dot":                   {".auth", `".auth" is not a bus name`},
		"a trailing dot":                  {"auth.", `"auth." is not a bus name`},
		"two dots in a row":               {"auth..x", `"auth..x" is not a bus name`},
		"a slash, which would part a key": {"auth/x", `"auth/x" is not a bus name`},
		"a hyphen":                        {"my-auth", `"my-auth" is not a bus name`},
		"a space":                         {"my auth", `"my auth" is not a bus name`},
		"a line break at the end":         {"auth\n", `"auth\n" is not a bus name`},
		"a letter beyond ASCII":           {"öl", `"öl" is not a bus name`},
		"the reserved name":               {"default", `"default" is reserved`},
		"a name below the reserved one":   {"default.x", `"default.x" is reserved`},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			api, err := read(t, service("ShopService", named(test.name), method("Buy", nil)))
			if api != nil {
				t.Errorf("contract = %+v, want none", api)
			}
			wantFault(t, err, "shop.v1.ShopService", "(onecall.v1.api).name", test.problem)
		})
	}
}

func TestAServiceWithoutANameGoesByItsFullProtoName(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		pkg, service string
		options      *onecallv1.ApiOptions
		want         string
	}{
		"without the option":                 {"shop.v1", "ShopService", nil, "shop.v1.ShopService"},
		"with an option that has no name":    {"shop.v1", "ShopService", &onecallv1.ApiOptions{Timeout: durationpb.New(time.Second)}, "shop.v1.ShopService"},
		"outside any package":                {"", "Shop", nil, "Shop"},
		"in a package like the reserved one": {"defaults", "Shop", nil, "defaults.Shop"},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			descriptor := file(t, "shop.proto", test.pkg, service(test.service, test.options, method("Buy", nil))).Services().Get(0)
			api, err := contract.FromDescriptor(descriptor)
			if err != nil {
				t.Fatal(err)
			}
			if api.Name != test.want || api.Service != test.want || api.RPCs[0].Name != test.want+".buy" {
				t.Errorf("contract = %+v, want the name %s", api, test.want)
			}
		})
	}
}

func TestAReservedFullProtoNameIsAFaultUnlessAnOptionRenamesIt(t *testing.T) {
	t.Parallel()
	for pkg, names := range map[string][2]string{"default": {"Shop", "default.Shop"}, "default.v1": {"Shop", "default.v1.Shop"}, "": {"default", "default"}} {
		t.Run(names[1], func(t *testing.T) {
			t.Parallel()
			_, err := contract.FromDescriptor(file(t, "shop.proto", pkg, service(names[0], nil)).Services().Get(0))
			wantFault(t, err, names[1], "reserved", "(onecall.v1.api).name")
			api, err := contract.FromDescriptor(file(t, "shop.proto", pkg, service(names[0], named("shop"))).Services().Get(0))
			if err != nil || api.Name != "shop" || api.Service != names[1] {
				t.Errorf("with a name of its own: %+v, %v", api, err)
			}
		})
	}
}

func TestATimeoutIsWhatIsDeclared(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		declared *durationpb.Duration
		want     time.Duration
	}{
		"none":                 {nil, 0},
		"whole seconds":        {durationpb.New(2 * time.Second), 2 * time.Second},
		"a part of a second":   {durationpb.New(1500 * time.Millisecond), 1500 * time.Millisecond},
		"the shortest of all":  {durationpb.New(1), 1},
		"longer than a minute": {durationpb.New(time.Hour), time.Hour},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			api, err := read(t, service("ShopService", &onecallv1.ApiOptions{Timeout: test.declared},
				method("Buy", nil), method("Sell", &onecallv1.RpcOptions{Timeout: test.declared})))
			if err != nil {
				t.Fatal(err)
			}
			if api.Timeout != test.want || api.RPCs[0].Timeout != 0 || api.RPCs[1].Timeout != test.want {
				t.Errorf("timeouts of the API, of an RPC without and of one with: %v, %v, %v; want %v, 0, %v",
					api.Timeout, api.RPCs[0].Timeout, api.RPCs[1].Timeout, test.want, test.want)
			}
		})
	}
}

func TestABadTimeoutIsAFaultOfWhatDeclaresIt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		declared *durationpb.Duration
		problem  string
	}{
		"zero":                    {&durationpb.Duration{}, "is 0s"},
		"negative":                {durationpb.New(-time.Second), "is -1s"},
		"negative by a bit":       {&durationpb.Duration{Nanos: -1}, "is -1ns"},
		"parts of different sign": {&durationpb.Duration{Seconds: 1, Nanos: -1}, "not a valid google.protobuf.Duration"},
		"a second of nanoseconds": {&durationpb.Duration{Nanos: 1e9}, "not a valid google.protobuf.Duration"},
		"beyond ten thousand years": {
			&durationpb.Duration{Seconds: 400_000_000_000}, "not a valid google.protobuf.Duration",
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			_, err := read(t, service("ShopService", &onecallv1.ApiOptions{Timeout: test.declared}, method("Buy", nil)))
			wantFault(t, err, "shop.v1.ShopService", "(onecall.v1.api).timeout", test.problem)
			_, err = read(t, service("ShopService", nil, method("Buy", nil), method("Sell", &onecallv1.RpcOptions{Timeout: test.declared})))
			wantFault(t, err, "shop.v1.ShopService.Sell", "(onecall.v1.rpc).timeout", test.problem)
		})
	}
}

func TestAStreamingRPCDeclaresNoTimeout(t *testing.T) {
	t.Parallel()
	for title, stream := range map[string]struct{ client, server bool }{
		"requests are a stream": {client: true},
		"replies are a stream":  {server: true},
		"both are a stream":     {client: true, server: true},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			build := func(rpc *onecallv1.RpcOptions) *descriptorpb.ServiceDescriptorProto {
				watch := method("Watch", rpc)
				watch.ClientStreaming, watch.ServerStreaming = new(stream.client), new(stream.server)
				return service("ShopService", &onecallv1.ApiOptions{Timeout: durationpb.New(time.Second)}, watch)
			}
			_, err := read(t, build(&onecallv1.RpcOptions{Timeout: durationpb.New(time.Second)}))
			wantFault(t, err, "shop.v1.ShopService.Watch", "(onecall.v1.rpc).timeout", "streaming")
			for _, rpc := range []*onecallv1.RpcOptions{nil, {}} {
				api, err := read(t, build(rpc))
				if err != nil {
					t.Fatal(err)
				}
				if !api.RPCs[0].Stream || api.RPCs[0].Timeout != 0 {
					t.Errorf("contract = %+v, want a stream without a timeout", api.RPCs[0])
				}
			}
		})
	}
}

func TestAnRPCHasTheIdempotencyItDeclares(t *testing.T) {
	t.Parallel()
	for number, name := range descriptorpb.MethodOptions_IdempotencyLevel_name {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			level := contract.Idempotency(number)
			buy := method("Buy", nil)
			buy.Options = &descriptorpb.MethodOptions{IdempotencyLevel: &level}
			api, err := read(t, service("ShopService", nil, buy, method("Sell", nil)))
			if err != nil {
				t.Fatal(err)
			}
			if api.RPCs[0].Idempotency != level {
				t.Errorf("idempotency = %v, want %v", api.RPCs[0].Idempotency, level)
			}
			if undeclared := api.RPCs[1].Idempotency; undeclared != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN {
				t.Errorf("idempotency of a method that declares none = %v", undeclared)
			}
		})
	}
}

func TestTwoMethodsWithOneBusNameAreAFault(t *testing.T) {
	t.Parallel()
	for first, second := range map[string]string{"GetURL": "GetUrl", "GetUser": "Get_User", "buy": "Buy"} {
		t.Run(first+" and "+second, func(t *testing.T) {
			t.Parallel()
			_, err := read(t, service("ShopService", named("shop"), method(first, nil), method("Other", nil), method(second, nil)))
			wantFault(t, err, "shop.v1.ShopService."+second, "shop.v1.ShopService."+first, "rename", contract.RPCName("shop", first))
		})
	}
}

func TestTheGeneratedTestAPIIsReadWhole(t *testing.T) {
	t.Parallel()
	services := testv1.File_onecall_test_v1_echo_proto.Services()
	api, err := contract.FromDescriptor(services.ByName("EchoService"))
	if err != nil {
		t.Fatal(err)
	}
	if api.Name != "test.echo" || api.Service != "onecall.test.v1.EchoService" || api.Timeout != 2*time.Minute {
		t.Errorf("contract = %+v", api)
	}
	want := []contract.RPC{
		{Name: "test.echo.echo", Method: testv1.EchoService_Echo_FullMethodName, Idempotency: descriptorpb.MethodOptions_NO_SIDE_EFFECTS},
		{Name: "test.echo.echo_soon", Method: testv1.EchoService_EchoSoon_FullMethodName, Timeout: time.Minute},
		{Name: "test.echo.watch", Method: testv1.EchoService_Watch_FullMethodName, Stream: true},
		{Name: "test.echo.collect", Method: testv1.EchoService_Collect_FullMethodName, Stream: true},
		{Name: "test.echo.chat", Method: testv1.EchoService_Chat_FullMethodName, Stream: true},
	}
	if !slices.Equal(api.RPCs, want) {
		t.Errorf("RPCs = %+v\nwant %+v", api.RPCs, want)
	}

	plain, err := contract.FromDescriptor(services.ByName("PlainService"))
	if err != nil {
		t.Fatal(err)
	}
	ping := []contract.RPC{{Name: "onecall.test.v1.PlainService.ping", Method: testv1.PlainService_Ping_FullMethodName}}
	if plain.Name != "onecall.test.v1.PlainService" || plain.Timeout != 0 || !slices.Equal(plain.RPCs, ping) {
		t.Errorf("contract of a service without options = %+v", plain)
	}
}

func TestAnRPCsNameIsItsMethodInSnakeCase(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]string{
		"CheckPassword":     "check_password",
		"GetHTTPStatus":     "get_http_status",
		"HTTPGet":           "http_get",
		"GetURL":            "get_url",
		"GetUrl":            "get_url",
		"Get":               "get",
		"get":               "get",
		"G":                 "g",
		"HTTP":              "http",
		"OAuth2Login":       "o_auth2_login",
		"Login2FA":          "login2_fa",
		"GetIDs":            "get_ids",
		"ListVMs":           "list_vms",
		"IDs":               "ids",
		"GetIDsOfUser":      "get_ids_of_user",
		"GetHTTPSProxyURLs": "get_https_proxy_urls",
		"GetVMs2":           "get_vms2",
		"AsText":            "as_text",
		"ListAs":            "list_as",
		"DNSsec":            "dn_ssec",
		"SignSHA256Sum":     "sign_sha256_sum",
		"GetV2":             "get_v2",
		"Get_User":          "get_user",
		"get_user":          "get_user",
		"GET_USER":          "get_user",
		"getUser":           "get_user",
		"GetAUser":          "get_a_user",
		"Get__User":         "get__user",
		"_Get":              "_get",
		"Get_":              "get_",
	} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			if got := contract.RPCName("shop.v2", method); got != "shop.v2."+want {
				t.Errorf("RPCName = %q, want %q", got, "shop.v2."+want)
			}
		})
	}
}

func TestAPathIsPartedIntoServiceAndMethod(t *testing.T) {
	t.Parallel()
	good := map[string][2]string{
		"/shop.v1.ShopService/Buy": {"shop.v1.ShopService", "Buy"},
		"/Shop/Buy":                {"Shop", "Buy"},
	}
	for path, want := range good {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			service, method, ok := contract.SplitMethod(path)
			if !ok || service != want[0] || method != want[1] {
				t.Errorf("SplitMethod = %q, %q, %v; want %q, %q", service, method, ok, want[0], want[1])
			}
		})
	}
	bad := map[string]string{
		"nothing": "", "a slash alone": "/", "two slashes": "//", "no slash in front": "shop.v1.ShopService/Buy",
		"no method": "/shop.v1.ShopService", "an empty method": "/shop.v1.ShopService/", "an empty service": "//Buy",
		"a third part": "/shop.v1.ShopService/Buy/x", "a slash at the end": "/shop.v1.ShopService/Buy/", "a bus name": "shop.buy",
	}
	for title, path := range bad {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if service, method, ok := contract.SplitMethod(path); ok {
				t.Errorf("SplitMethod(%q) = %q, %q, want it refused", path, service, method)
			}
		})
	}
}

// files returns a valid service, two services with the same bus name, a service with an
// invalid name and one with an invalid method.
func files(t *testing.T) *protoregistry.Files {
	t.Helper()
	files := &protoregistry.Files{}
	for _, built := range []protoreflect.FileDescriptor{
		file(t, "shop/v1/shop.proto", "shop.v1",
			service("ShopService", named("shop"), method("Buy", nil)),
			service("PlainService", nil, method("Ping", nil)),
			service("BadNameService", named("Bad"), method("Buy", nil)),
			service("BadMethodService", named("shop"), method("Buy", &onecallv1.RpcOptions{Timeout: durationpb.New(-1)}))),
		file(t, "shop/v2/shop.proto", "shop.v2", service("ShopService", named("shop"), method("Buy", nil))),
	} {
		if err := files.RegisterFile(built); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestFindReadsAServiceByItsFullProtoName(t *testing.T) {
	t.Parallel()
	files := files(t)
	t.Run("a service that is there", func(t *testing.T) {
		t.Parallel()
		api, err := contract.Find(files, "shop.v1.ShopService")
		if err != nil || api == nil || api.Name != "shop" || api.Service != "shop.v1.ShopService" {
			t.Errorf("Find = %+v, %v", api, err)
		}
	})
	for title, absent := range map[string]string{
		"a service that is absent": "shop.v1.OtherService",
		"a bus name":               "shop",
		"the name of a package":    "shop.v1",
		"no name of anything":      "shop//v1",
		"an empty name":            "",
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if api, err := contract.Find(files, absent); api != nil || err != nil {
				t.Errorf("Find(%q) = %+v, %v; want nil, nil", absent, api, err)
			}
		})
	}
	for title, other := range map[string]string{"a message": "shop.v1.Message", "a method": "shop.v1.ShopService.Buy"} {
		t.Run("the name of "+title, func(t *testing.T) {
			t.Parallel()
			api, err := contract.Find(files, other)
			if api != nil {
				t.Errorf("contract = %+v, want none", api)
			}
			wantFault(t, err, other, "another thing than a service")
		})
	}
	t.Run("a service with a fault", func(t *testing.T) {
		t.Parallel()
		_, err := contract.Find(files, "shop.v1.BadNameService")
		wantFault(t, err, "shop.v1.BadNameService", `"Bad"`)
	})
}

func TestCheckNameTellsNamesOfAPIsFromOthers(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"auth", "billing.invoices", "auth.v1.AuthService", "Shop", "grpc.testing.TestService", "defaults", "Default"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := contract.CheckName(name); err != nil {
				t.Errorf("CheckName = %v", err)
			}
		})
	}
	bad := map[string]struct{ name, subject, problem string }{
		"nothing":                      {"", `API ""`, "is empty"},
		"a slash":                      {"auth/x", `API "auth/x"`, "not a name of an API"},
		"a trailing dot":               {"auth.", `API "auth."`, "not a name of an API"},
		"two dots in a row":            {"auth..x", `API "auth..x"`, "not a name of an API"},
		"a leading digit":              {"1auth", `API "1auth"`, "not a name of an API"},
		"a hyphen":                     {"my-auth", `API "my-auth"`, "not a name of an API"},
		"a URL":                        {"dns:///auth", `API "dns:///auth"`, "not a name of an API"},
		"the reserved name":            {"default", "default", "reserved"},
		"a name below the reserved":    {"default.x", "default.x", "reserved"},
		"a service in its package":     {"default.Shop", "default.Shop", "reserved"},
		"a service that is gRPC's own": {"grpc.health.v1.Health", "grpc.health.v1.Health", "gRPC's own"},
	}
	for title, test := range bad {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			wantFault(t, contract.CheckName(test.name), test.subject, test.problem)
		})
	}
}

func TestAServiceDescAloneGivesNamesAndShapes(t *testing.T) {
	t.Parallel()
	desc := &grpc.ServiceDesc{
		ServiceName: "shop.v1.ShopService",
		Methods:     []grpc.MethodDesc{{MethodName: "Buy"}, {MethodName: "GetPrice"}},
		Streams:     []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true}},
	}
	api, err := contract.FromServiceDesc(desc)
	if err != nil {
		t.Fatal(err)
	}
	want := []contract.RPC{
		{Name: "shop.v1.ShopService.buy", Method: "/shop.v1.ShopService/Buy"},
		{Name: "shop.v1.ShopService.get_price", Method: "/shop.v1.ShopService/GetPrice"},
		{Name: "shop.v1.ShopService.watch", Method: "/shop.v1.ShopService/Watch", Stream: true},
	}
	if api.Name != desc.ServiceName || api.Service != desc.ServiceName || api.Timeout != 0 || !slices.Equal(api.RPCs, want) {
		t.Errorf("contract = %+v, want RPCs %+v", api, want)
	}
	for _, reserved := range []string{"default", "default.Shop"} {
		_, err := contract.FromServiceDesc(&grpc.ServiceDesc{ServiceName: reserved})
		wantFault(t, err, reserved, "reserved")
	}
	for name, subject := range map[string]string{"": `API ""`, "a/b": `API "a/b"`} {
		t.Run(name, func(t *testing.T) {
			_, err := contract.FromServiceDesc(&grpc.ServiceDesc{ServiceName: name})
			wantFault(t, err, subject, "name")
		})
	}
}

func TestServicesOfGRPCsOwnAreNoAPIs(t *testing.T) {
	t.Parallel()
	for service, want := range map[string]bool{
		"grpc.health.v1.Health":                    true,
		"grpc.reflection.v1.ServerReflection":      true,
		"grpc.reflection.v1alpha.ServerReflection": true,
		"grpc.channelz.v1.Channelz":                true,
		"onecall.v1.Calls":                         true,
		"grpc.testing.TestService":                 false,
		"grpc.health.v1.Healthy":                   false,
		"shop.v1.ShopService":                      false,
		"":                                         false,
	} {
		t.Run(service, func(t *testing.T) {
			t.Parallel()
			if got := contract.IsBuiltin(service); got != want {
				t.Errorf("IsBuiltin = %v, want %v", got, want)
			}
		})
	}
}

func TestStreamsHaveNoOptionsOfUnaryCalls(t *testing.T) {
	t.Parallel()
	for option, set := range map[string]*onecallv1.RpcOptions{
		"keep_reply":          {KeepReply: onecallv1.KeepReply_KEEP_REPLY_ALWAYS},
		"end_with_connection": {EndWithConnection: true},
	} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			watch := method("Watch", set)
			watch.ServerStreaming = new(true)
			_, err := read(t, service("ShopService", nil, watch))
			wantFault(t, err, "shop.v1.ShopService.Watch", option, "stream")
		})
	}
}

func TestAnRPCMayEndWithItsConnection(t *testing.T) {
	t.Parallel()
	api, err := read(t, service("ShopService", nil, method("Buy", &onecallv1.RpcOptions{EndWithConnection: true}), method("Sell", nil)))
	if err != nil || !api.RPCs[0].EndsWithConnection || api.RPCs[1].EndsWithConnection {
		t.Errorf("contract = %+v, %v, want that Buy alone ends with its connection", api, err)
	}
}
