package framework_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/contract"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// kinds serves KindsService.
type kinds struct {
	testv1.UnimplementedKindsServiceServer
}

func (kinds) Mirror(_ context.Context, req *testv1.MirrorRequest) (*testv1.MirrorResponse, error) {
	return &testv1.MirrorResponse{Kinds: req.GetKinds()}, nil
}

func (kinds) SignIn(_ context.Context, req *testv1.SignInRequest) (*testv1.SignInResponse, error) {
	return &testv1.SignInResponse{Valid: req.GetPassword() == "secr3t"}, nil
}

func registerKinds(apis grpc.ServiceRegistrar) { testv1.RegisterKindsServiceServer(apis, kinds{}) }

func TestACallByNameIsTheTypedCall(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveAny(t, registry, registerKinds)
	bus := newBus(t, registry)
	ready(t, bus, "test.kinds")
	for password, want := range map[string]bool{"secr3t": true, "guess": false} {
		t.Run(password, func(t *testing.T) {
			reply, err := bus.Call(t.Context(), "test.kinds.sign_in", framework.Args{"username": "adam", "password": password})
			if err != nil {
				t.Fatal(err)
			}
			typed, err := testv1.NewKindsServiceClient(bus).SignIn(t.Context(), &testv1.SignInRequest{Username: "adam", Password: password})
			if err != nil {
				t.Fatal(err)
			}
			var valid bool
			var into struct{ Valid bool }
			message := new(testv1.SignInResponse)
			if err := errors.Join(reply.Into(&valid), reply.Into(&into), reply.Into(message)); err != nil {
				t.Error(err)
			}
			if valid != want || into.Valid != want || message.GetValid() != typed.GetValid() || reply.Map()["valid"] != want || reply.Message().(*testv1.SignInResponse).GetValid() != want {
				t.Errorf("of %q the reply is %v, %v, %v, %v, want %v", password, valid, into, message, reply.Map(), want)
			}
			if err := reply.Into(new(int)); err == nil || !strings.Contains(err.Error(), "valid") {
				t.Errorf("into an int = %v", err)
			}
		})
	}
}

// TestMisuseIsRefusedBeforeAnythingIsAsked uses a registry that must not be called.
func TestMisuseIsRefusedBeforeAnythingIsAsked(t *testing.T) {
	t.Parallel()
	bus := newBus(t, untouched{fixed{}, t})
	right := framework.Args{"username": "adam", "password": "secr3t"}
	const usage = `bus.Call(ctx, "test.kinds.sign_in", framework.Args{"username": "…", "password": "…"})`
	for title, test := range map[string]struct {
		name string
		args []any
		want []string
	}{
		"positional":          {"test.kinds.sign_in", []any{"admin", "hunter2"}, []string{usage, "2"}},
		"one positional":      {"test.kinds.sign_in", []any{"hunter2"}, []string{usage}},
		"more after Args":     {"test.kinds.sign_in", []any{right, "hunter2"}, []string{usage}},
		"a nil":               {"test.kinds.sign_in", []any{nil}, []string{usage}},
		"nothing":             {"test.kinds.sign_in", nil, []string{"username", "password", usage}},
		"missing":             {"test.kinds.sign_in", []any{framework.Args{"username": "adam"}}, []string{"password", usage}},
		"misspelt":            {"test.kinds.sign_in", []any{framework.Args{"usrname": "adam", "password": "hunter2"}}, []string{"usrname", "username", usage}},
		"wrong type":          {"test.kinds.sign_in", []any{framework.Args{"username": 7, "password": "hunter2"}}, []string{"username", "string", usage}},
		"invalid UTF-8":       {"test.kinds.sign_in", []any{framework.Args{"username": "\xff", "password": "hunter2"}}, []string{"username", "UTF-8"}},
		"a nil value":         {"test.kinds.sign_in", []any{framework.Args{"username": nil, "password": "hunter2"}}, []string{"username", "nil"}},
		"no name":             {"", []any{right}, []string{"empty"}},
		"a private name":      {"_private", []any{right}, []string{"_private"}},
		"an API alone":        {"auth", []any{right}, []string{"auth"}},
		"a dot at the end":    {"auth.", []any{right}, []string{"auth."}},
		"a dot at the start":  {".check_password", []any{right}, []string{".check_password"}},
		"a method of gRPC's":  {"/auth.v1.AuthService/CheckPassword", []any{right}, []string{"check_password"}},
		"a stream":            {"test.echo.chat", []any{framework.Args{"text": "x"}}, []string{"is a stream"}},
		"a reserved name":     {"default.find", []any{right}, []string{`"default" is reserved`}},
		"breaks a rule":       {"test.echo.echo", []any{framework.Args{"text": tooLong}}, []string{"text", "65536"}},
		"a NaN, where a rule": {"test.rules.give", []any{framework.Args{"plain": "", "ruled": "x", "must": "", "number": math.NaN()}}, []string{"number", "finite"}},
	} {
		t.Run(title, func(t *testing.T) {
			_, err := bus.Call(t.Context(), test.name, test.args...)
			if code := status.Code(err); code != codes.InvalidArgument && code != codes.Unimplemented || framework.OutcomeOf(err) != framework.NotSent {
				t.Errorf("%s: %v, %v", title, code, err)
				return
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%s: %q does not say %q", title, err, want)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %q shows a password", title, err)
			}
		})
	}
	_, err := bus.Call(t.Context(), "test.kinds.sign_in", framework.Args{"usrname": "adam"})
	found := 0
	for _, detail := range status.Convert(err).Details() {
		if request, ok := detail.(*errdetails.BadRequest); ok {
			found = len(request.GetFieldViolations())
		}
	}
	if found != 3 {
		t.Errorf("%d violations are in the details of %v, want unknown and two missing", found, err)
	}
	// The registry is called for a name that might be an API's, but only if the form is
	// right.
	_, err = newBus(t, memory.New()).Call(t.Context(), "auth.check_password.x", right)
	if !errors.As(err, new(*discovery.UnknownAPIError)) || status.Code(err) != codes.Unimplemented {
		t.Errorf("a call of an unknown API = %v", err)
	}
	if _, err := bus.Call(nil, "test.kinds.sign_in", right); status.Code(err) != codes.InvalidArgument { //nolint:staticcheck // that is what is tested
		t.Errorf("with a nil context = %v", err)
	}
}

// TestNoCallIsSuggestedThatWouldBeRefused makes calls with wrong names and values, on a
// registry that must not be called.
func TestNoCallIsSuggestedThatWouldBeRefused(t *testing.T) {
	t.Parallel()
	bus := newBus(t, untouched{fixed{}, t})
	right := framework.Args{"username": "adam", "password": "secr3t"}
	option := framework.Timeout(time.Minute)
	const signIn = ` Write bus.Call(ctx, "test.kinds.sign_in", framework.Args{"username": "…", "password": "…"})`
	for title, test := range map[string]struct {
		name string
		args []any
		want string
	}{
		"a stream of replies":         {"test.echo.watch", []any{"hunter2"}, "test.echo.watch: it is a stream, which Bus.Call does not call: begin it with Bus.Stream, or use its generated client"},
		"a stream of requests":        {"test.echo.collect", []any{"hunter2", 3}, "test.echo.collect: it is a stream, which Bus.Call does not call: begin it with Bus.Stream, or use its generated client"},
		"a stream, the option first":  {"test.echo.chat", []any{option, framework.Args{}}, "test.echo.chat: it is a stream, which Bus.Call does not call: begin it with Bus.Stream, or use its generated client"},
		"no such RPC":                 {"test.kinds.sign_im", []any{"hunter2"}, `test.kinds.sign_im: API "test.kinds" has no such RPC: did you mean test.kinds.sign_in?`},
		"no such RPC, and none near":  {"test.kinds.nothing", []any{"hunter2"}, `test.kinds.nothing: API "test.kinds" has no such RPC: it has mirror, count, sign_in, place`},
		"a name that no API has":      {"default.find", []any{"hunter2"}, `default.find: default: the API name "default" is reserved`},
		"the option first":            {"test.kinds.sign_in", []any{option, right}, "test.kinds.sign_in: the parameters come before the options." + signIn},
		"options around a map":        {"test.kinds.sign_in", []any{option, map[string]any(right), option}, "test.kinds.sign_in: the parameters come before the options." + signIn},
		"the option before a value":   {"test.kinds.sign_in", []any{option, "hunter2"}, "test.kinds.sign_in: parameters go by name only, and one value without a name was given: string." + signIn},
		"an option among values":      {"test.kinds.sign_in", []any{"admin", option, "hunter2"}, "test.kinds.sign_in: parameters go by name only, and 2 values without names were given: string and string." + signIn},
		"the parameters twice":        {"test.kinds.sign_in", []any{right, right}, "test.kinds.sign_in: parameters go by name only, and 2 values without names were given: framework.Args and framework.Args." + signIn},
		"the option first, a foreign": {"shop.items.find_item", []any{option, right}, `shop.items.find_item: the parameters come before the options. Write bus.Call(ctx, "shop.items.find_item", framework.Args{"name": value, …})`},
	} {
		t.Run(title, func(t *testing.T) {
			_, err := bus.Call(t.Context(), test.name, test.args...)
			if code := status.Code(err); code != codes.InvalidArgument && code != codes.Unimplemented || framework.OutcomeOf(err) != framework.NotSent {
				t.Errorf("%s: %v, %v", title, code, framework.OutcomeOf(err))
			}
			if !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("%s:\n%s\nwant\n%s", title, err, test.want)
			}
		})
	}
}

// TestASchemaThatWasReadSpellsOutTheRightCall describes an API whose generated
// code is not linked into this program, and calls none of it.
func TestASchemaThatWasReadSpellsOutTheRightCall(t *testing.T) {
	t.Parallel()
	counting, bus := countedForeign(t)
	if _, err := bus.Describe(t.Context(), "shop.items"); err != nil {
		t.Fatal(err)
	}
	asked := counting.asked.Load()
	for name, want := range map[string]string{
		"shop.items.find_item":  `Write bus.Call(ctx, "shop.items.find_item", framework.Args{"name": "…", "most": 0})`,
		"shop.items.find_itme":  "did you mean shop.items.find_item?",
		"shop.others.find_item": `framework.Args{"name": value, …}`,
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := bus.Call(t.Context(), name, "lamp", 1); err == nil || !strings.Contains(err.Error(), want) || framework.OutcomeOf(err) != framework.NotSent {
				t.Errorf("a positional call of %s = %v, want %q", name, err, want)
			}
		})
	}
	if again := counting.asked.Load() - asked; again != 0 {
		t.Errorf("the registry was asked %d times for it", again)
	}
}

// TestWhatMustBeGivenIsAsDocumented checks the rows of the table in
// docs/named-parameters.md.
func TestWhatMustBeGivenIsAsDocumented(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveAny(t, registry, new(rules).register)
	bus := newBus(t, registry)
	ready(t, bus, "test.rules")
	for title, test := range map[string]struct {
		change  func(framework.Args)
		typed   *testv1.GiveRequest
		refused string // "" when it is sent
		given   []string
	}{
		"without presence, left out":                     {change: func(a framework.Args) { delete(a, "plain") }, refused: "plain is missing"},
		"without presence, zero":                         {change: func(a framework.Args) { a["plain"] = "" }, given: []string{"must", "ruled"}},
		"with a rule, left out":                          {change: func(a framework.Args) { delete(a, "ruled") }, refused: "ruled is missing"},
		"with a rule, zero":                              {change: func(a framework.Args) { a["ruled"] = "" }, refused: "string.min_len"},
		"optional, left out":                             {change: func(framework.Args) {}, given: []string{"must", "plain", "ruled"}},
		"optional, zero":                                 {change: func(a framework.Args) { a["may"] = "" }, given: []string{"may", "must", "plain", "ruled"}},
		"optional and required, left out":                {change: func(a framework.Args) { delete(a, "must") }, refused: "must: value is required"},
		"optional and required, zero":                    {change: func(a framework.Args) { a["must"] = "" }, given: []string{"must", "plain", "ruled"}},
		"typed, without presence, left out":              {typed: &testv1.GiveRequest{Ruled: "x", Must: new("")}, given: []string{"must", "ruled"}},
		"typed, with a rule, left out":                   {typed: &testv1.GiveRequest{Must: new("")}, refused: "string.min_len"},
		"typed, optional, zero":                          {typed: &testv1.GiveRequest{Ruled: "x", May: new(""), Must: new("")}, given: []string{"may", "must", "ruled"}},
		"typed, optional and required, left out":         {typed: &testv1.GiveRequest{Ruled: "x"}, refused: "must: value is required"},
		"typed, optional and required, present and zero": {typed: &testv1.GiveRequest{Ruled: "x", Must: new("")}, given: []string{"must", "ruled"}},
	} {
		t.Run(title, func(t *testing.T) {
			reply := new(testv1.GiveResponse)
			var err error
			if test.typed != nil {
				reply, err = testv1.NewRulesServiceClient(bus).Give(t.Context(), test.typed)
			} else {
				args := framework.Args{"plain": "x", "ruled": "x", "must": "x", "number": 0.0}
				test.change(args)
				var byName *framework.Reply
				if byName, err = bus.Call(t.Context(), "test.rules.give", args); err == nil {
					err = byName.Into(reply)
				}
			}
			switch {
			case test.refused == "" && (err != nil || !slices.Equal(reply.GetGiven(), test.given)):
				t.Errorf("%s: %v, %v, want %v", title, reply.GetGiven(), err, test.given)
			case test.refused != "" && (status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) != framework.NotSent || !strings.Contains(err.Error(), test.refused)):
				t.Errorf("%s: %v, want %q", title, err, test.refused)
			}
		})
	}
}

// TestASchemaFromTheRegistryIsEnough calls an API whose generated code is not
// linked into this program.
func TestASchemaFromTheRegistryIsEnough(t *testing.T) {
	t.Parallel()
	served := memory.New()
	serveForeign(t, served)
	bus := newBus(t, served)
	reply, err := bus.Call(t.Context(), "shop.items.find_item", framework.Args{"name": "lamp", "most": 3})
	if err != nil {
		t.Fatal(err)
	}
	var into struct {
		Names []string
		Total int64
	}
	if err := reply.Into(&into); err != nil || len(into.Names) != 3 || into.Names[2] != "lamp" || into.Total != 3 {
		t.Errorf("the reply is %v (%v), %+v", reply.Map(), err, into)
	}
	_, err = bus.Call(t.Context(), "shop.items.find_item", framework.Args{"name": "", "most": 3})
	if status.Code(err) != codes.InvalidArgument || framework.OutcomeOf(err) != framework.NotSent || !strings.Contains(err.Error(), "name") {
		t.Errorf("a call that breaks a rule of a schema from the registry = %v", err)
	}
	_, err = bus.Call(t.Context(), "shop.items.find_item", framework.Args{"nane": "lamp", "most": 3})
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `framework.Args{"name": "…"`) {
		t.Errorf("a misspelt call of a schema from the registry = %v", err)
	}
	_, err = bus.Call(t.Context(), "shop.items.find_itme", framework.Args{})
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "did you mean shop.items.find_item?") {
		t.Errorf("a call of an RPC that a schema from the registry does not have = %v", err)
	}
	description, err := bus.Describe(t.Context(), "shop.items")
	if err != nil || description.RPCs[0].Comment != "Finds items." || !strings.Contains(description.String(), `name string, required, string.min_len: 1`) {
		t.Errorf("the description is %v (%v)", description, err)
	}

	without := memory.New()
	if _, err := without.Register(discovery.Instance{API: "shop.items", Address: "127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	_, err = newBus(t, without).Call(t.Context(), "shop.items.find_item", framework.Args{})
	if err == nil || !strings.Contains(err.Error(), "publish no schema") {
		t.Errorf("a call of an API without a schema = %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = newBus(t, silent{}).Call(ctx, "shop.items.find_item", framework.Args{})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call on a registry that says nothing = %v", err)
	}
}

// TestDescribeTellsRulesThatAreZeroOrPredefined reads a schema with a predefined rule,
// which is an extension that this program does not know.
func TestDescribeTellsRulesThatAreZeroOrPredefined(t *testing.T) {
	t.Parallel()
	const slug = 80048952
	text := &validate.StringRules{MinLen: proto.Uint64(1)}
	text.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, slug, protowire.VarintType), 1))
	within := &validate.DurationRules{
		GreaterThan: &validate.DurationRules_Gt{Gt: durationpb.New(0)}, LessThan: &validate.DurationRules_Lte{Lte: durationpb.New(1500 * time.Millisecond)},
	}
	after := &validate.TimestampRules{GreaterThan: &validate.TimestampRules_Gte{Gte: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))}}
	file := shopFile()
	file.Syntax, file.Edition = new("editions"), descriptorpb.Edition_EDITION_2023.Enum()
	file.Dependency = append(file.Dependency, "google/protobuf/duration.proto", "google/protobuf/timestamp.proto")
	file.Extension = []*descriptorpb.FieldDescriptorProto{{
		Name: new("slug"), Number: new(int32(slug)), Extendee: new(".buf.validate.StringRules"),
		Type: descriptorpb.FieldDescriptorProto_TYPE_BOOL.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
	}}
	request := file.GetMessageType()[0]
	request.Field = nil
	for i, field := range []struct {
		name, message string
		rules         *validate.FieldRules
	}{
		{"name", "", &validate.FieldRules{Type: &validate.FieldRules_String_{String_: text}}},
		{"within", ".google.protobuf.Duration", &validate.FieldRules{Type: &validate.FieldRules_Duration{Duration: within}}},
		{"after", ".google.protobuf.Timestamp", &validate.FieldRules{Type: &validate.FieldRules_Timestamp{Timestamp: after}}},
	} {
		described := &descriptorpb.FieldDescriptorProto{
			Name: new(field.name), Number: new(int32(i + 1)), Options: &descriptorpb.FieldOptions{},
			Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
		if field.message != "" {
			described.Type, described.TypeName = descriptorpb.FieldDescriptorProto_TYPE_MESSAGE.Enum(), new(field.message)
		}
		proto.SetExtension(described.GetOptions(), validate.E_Field, field.rules)
		request.Field = append(request.Field, described)
	}
	_, digest, packed := publish(t, file)
	registry := memory.New()
	if _, err := registry.Register(discovery.Instance{API: "shop.items", Address: "127.0.0.1:1", Service: "shop.v1.ItemService", Schema: digest, Descriptors: packed}); err != nil {
		t.Fatal(err)
	}
	description, err := newBus(t, registry).Describe(t.Context(), "shop.items")
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"string.min_len: 1", "string.(shop.v1.slug): true"}, {"duration.lte: 1.5s", "duration.gt: 0s"}, {"timestamp.gte: 2026-01-02T03:04:05Z"},
	}
	for i, parameter := range description.RPCs[0].Parameters {
		if !slices.Equal(parameter.Rules, want[i]) {
			t.Errorf("the rules of %s are %q, want %q", parameter.Name, parameter.Rules, want[i])
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	bus := newBus(t, untouched{fixed{}, t})
	description, err := bus.Describe(t.Context(), "test.echo")
	if err != nil {
		t.Fatal(err)
	}
	const want = `// EchoService answers with what it was sent, in each of gRPC's four shapes.
test.echo (onecall.test.v1.EchoService)

// Echo has the API's timeout.
test.echo.echo, within 2m0s, NO_SIDE_EFFECTS
  parameters
    // What to answer with.
    text string, required, string.max_len: 65536
  reply
    // What the request said.
    text string

// EchoSoon has a timeout of its own.
test.echo.echo_soon, within 1m0s
  parameters
    // What to answer with.
    text string, required
  reply
    // What the request said.
    text string
`
	if got := description.String(); !strings.HasPrefix(got, want) {
		t.Errorf("the description is\n%s\nwant it to begin with\n%s", got, want)
	}
	for _, api := range []string{"test.kinds", "test.rules", "onecall.test.v1.PlainService"} {
		description, err := bus.Describe(t.Context(), api)
		if err != nil || len(description.RPCs) == 0 || description.String() == "" {
			t.Errorf("%s: %v, %v", api, description, err)
		}
	}
	ruled, err := bus.Describe(t.Context(), "test.rules")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"test.rules.order, within 2m0s\n  parameters, cel: this.customer == 'nobody'", "oneof payment: required: true", "account string, one of payment, string.len: 4",
		"password string, required, redacted, string.min_len: 8", "test.rules.haggle\n  parameters, a stream\n",
	} {
		if !strings.Contains(ruled.String(), want) {
			t.Errorf("the description does not say %q:\n%s", want, ruled)
		}
	}
	for _, bad := range []string{"", "default", "Auth.", "a b"} {
		if _, err := bus.Describe(t.Context(), bad); status.Code(err) != codes.InvalidArgument {
			t.Errorf("Describe(%q) = %v", bad, err)
		}
	}
}

func TestUnknownFieldsAreRefusedByAServiceThatSaysSo(t *testing.T) {
	t.Parallel()
	for _, strict := range []bool{false, true} {
		var options []framework.ServeOption
		if strict {
			options = append(options, framework.StrictSchema())
		}
		registry := memory.New()
		serve(t, registry, &echo{}, options...)
		client, _ := direct(t, registry)
		request := &testv1.EchoRequest{Text: "x"}
		request.ProtoReflect().SetUnknown([]byte{0xf8, 0x01, 0x07}) // field 31 is 7
		_, err := client.Echo(t.Context(), request)
		if refused := status.Code(err) == codes.InvalidArgument && strings.Contains(err.Error(), "31"); refused != strict {
			t.Errorf("strict %v: a request with an unknown field = %v", strict, err)
		}
	}
}

// TestAMessageOfEveryKindTravelsByName compares the replies of a typed call, a call by
// name with a message, and a call by name with plain values.
func TestAMessageOfEveryKindTravelsByName(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveAny(t, registry, registerKinds)
	bus := newBus(t, registry)
	ready(t, bus, "test.kinds")
	client := testv1.NewKindsServiceClient(bus)
	for depth := range 4 {
		kinds := &testv1.Kinds{}
		fill(t, kinds.ProtoReflect(), depth+1)
		require(kinds.ProtoReflect())
		typed, err := client.Mirror(t.Context(), &testv1.MirrorRequest{Kinds: kinds})
		if err != nil {
			t.Fatal(err)
		}
		plain, err := bus.Call(t.Context(), "test.kinds.mirror", framework.Args{"kinds": kinds})
		if err != nil {
			t.Fatal(err)
		}
		// The reply's plain values are sent again as parameters.
		again, err := bus.Call(t.Context(), "test.kinds.mirror", plain.Map())
		if err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string]proto.Message{"a message": plain.Message(), "plain values": again.Message()} {
			if !proto.Equal(got, typed) {
				t.Errorf("at depth %d by name as %s came back\n%v\nwant\n%v", depth, name, got, typed)
			}
		}
	}
}

// require sets the required fields that fill did not set.
func require(m protoreflect.Message) {
	if settle(m) {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if field.Message() == nil || field.IsMap() || field.IsList() || field.ContainingOneof() != nil || !contract.Required(field) {
			continue
		}
		require(m.Mutable(field).Message())
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				require(value.List().Get(i).Message())
			}
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, value protoreflect.Value) bool {
				require(value.Message())
				return true
			})
		case !field.IsMap() && !field.IsList() && field.Message() != nil:
			require(value.Message())
		}
		return true
	})
}

// settle sets values that their rules allow in messages whose fields are restricted;
// package protoargs tests others.
func settle(m protoreflect.Message) bool {
	set := func(field protoreflect.Name, value any) bool {
		m.Set(m.Descriptor().Fields().ByName(field), protoreflect.ValueOf(value))
		return true
	}
	switch m.Descriptor().FullName() {
	case "google.protobuf.Any":
		return set("type_url", "type.googleapis.com/google.protobuf.Empty")
	case "google.protobuf.Value":
		return set("number_value", 7.0)
	case "google.protobuf.FieldMask", "google.protobuf.Struct", "google.protobuf.ListValue":
		return true
	default:
		return false
	}
}

// fill sets every field, down to a depth.
func fill(t *testing.T, m protoreflect.Message, depth int) {
	t.Helper()
	if settle(m) {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.Message() != nil && depth == 0:
		case field.IsMap():
			key := scalar(field.MapKey()).MapKey()
			if field.MapValue().Message() != nil {
				fill(t, m.Mutable(field).Map().Mutable(key).Message(), depth-1)
				continue
			}
			m.Mutable(field).Map().Set(key, scalar(field.MapValue()))
		case field.IsList() && field.Message() != nil:
			fill(t, m.Mutable(field).List().AppendMutable().Message(), depth-1)
		case field.IsList():
			m.Mutable(field).List().Append(scalar(field))
		case field.Message() != nil:
			fill(t, m.Mutable(field).Message(), depth-1)
		default:
			m.Set(field, scalar(field))
		}
	}
}

// scalar returns a value that is not the default one.
func scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(field.Enum().Values().Get(field.Enum().Values().Len() - 1).Number())
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(7)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return protoreflect.ValueOfInt64(7)
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(7)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(7)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(1.5)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(1.5)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte("7"))
	default:
		return protoreflect.ValueOfString("7")
	}
}

// TestNamesThatNobodyServesLeaveNothingBehind calls names that may come from outside.
func TestNamesThatNobodyServesLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	counting, bus := countedForeign(t)
	var calling sync.WaitGroup
	for i := range 100 {
		calling.Go(func() {
			_, err := bus.Call(t.Context(), fmt.Sprintf("nobody%d.find", i%10), framework.Args{})
			if !errors.As(err, new(*discovery.UnknownAPIError)) {
				t.Errorf("a call of an API that nobody serves = %v", err)
			}
			if _, err := bus.Describe(t.Context(), "nobody"); !errors.As(err, new(*discovery.UnknownAPIError)) {
				t.Errorf("a description of one = %v", err)
			}
		})
	}
	calling.Wait()
	if got := counting.watches.Load(); got != 0 {
		t.Errorf("%d watches are left", got)
	}
	for range 3 {
		if _, err := bus.Call(t.Context(), "shop.items.find_item", framework.Args{"name": "lamp", "most": 1}); err != nil {
			t.Error(err)
		}
	}
	if got := counting.watches.Load(); got != 1 {
		t.Errorf("%d watches of an API that is called by name, want one for its schema and its instances", got)
	}
	// The right call is known now, and shown without a request to the registry.
	_, err := bus.Call(t.Context(), "shop.items.find_item", "lamp", 1)
	if err == nil || !strings.Contains(err.Error(), `framework.Args{"name": "…", "most": 0}`) {
		t.Errorf("a positional call of an API that was called before = %v", err)
	}
}

// countedForeign returns a registry with shop.items, and a bus on it.
func countedForeign(t *testing.T) (*counted, *framework.Bus) {
	t.Helper()
	registry := memory.New()
	serveForeign(t, registry)
	counting := &counted{Registry: registry}
	return counting, newBus(t, counting)
}

// counted counts the watches on a registry, and all calls of its methods.
type counted struct {
	discovery.Registry

	watches, asked atomic.Int64
}

func (c *counted) Descriptors(ctx context.Context, instance discovery.Instance) (string, error) {
	c.asked.Add(1)
	return c.Registry.Descriptors(ctx, instance)
}

func (c *counted) Watch(api string, observer func(discovery.Snapshot)) func() {
	c.asked.Add(1)
	c.watches.Add(1)
	stop := c.Registry.Watch(api, observer)
	return sync.OnceFunc(func() {
		c.watches.Add(-1)
		stop()
	})
}
