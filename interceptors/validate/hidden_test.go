package validate_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"

	pb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/onecall-dev/onecall/interceptors/validate"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

const (
	// secret must not be shown. The rules of KeepRequest would show it.
	secret = "top-5ecre7-of-all"
	// code is another secret, as a number.
	code = 4111111111111111
)

func parcel(tb testing.TB, msg proto.Message) *anypb.Any {
	tb.Helper()
	wrapped, err := anypb.New(msg)
	if err != nil {
		tb.Fatal(err)
	}
	return wrapped
}

func lock() *testv1.Lock {
	return &testv1.Lock{Word: secret, Words: map[string]string{secret: secret}}
}

func drawer() *testv1.Drawer { return &testv1.Drawer{Content: secret} }

// hiding returns requests with the secret in one place each, and the violations that may be
// shown.
func hiding(tb testing.TB) map[string]struct {
	req  *testv1.KeepRequest
	want []string
} {
	tb.Helper()
	type hidden = struct {
		req  *testv1.KeepRequest
		want []string
	}
	return map[string]hidden{
		"a scalar":                     {&testv1.KeepRequest{Secret: secret}, []string{"secret keep.secret"}},
		"a list":                       {&testv1.KeepRequest{Secrets: []string{"x", secret}}, []string{"secrets[1] keep.secrets"}},
		"a map":                        {&testv1.KeepRequest{Labels: map[string]string{secret: secret}}, []string{"labels keep.labels.key", "labels keep.labels.value"}},
		"a map of numbers":             {&testv1.KeepRequest{Codes: map[int64]int64{code: -code}}, []string{"codes int64.gt"}},
		"a number that the rule tells": {&testv1.KeepRequest{Number: code}, []string{"number uint64.lt"}},
		"a map of messages":            {&testv1.KeepRequest{Locks: map[string]*testv1.Lock{secret: lock()}}, []string{"locks lock.word", "locks.word lock.word.field", "locks.words string.max_len"}},
		"a oneof's scalar":             {&testv1.KeepRequest{Key: &testv1.KeepRequest_Pin{Pin: secret}}, []string{"pin keep.pin"}},
		"a oneof's message":            {&testv1.KeepRequest{Key: &testv1.KeepRequest_Lock{Lock: lock()}}, []string{"lock lock.word", "lock.word lock.word.field", "lock.words string.max_len"}},
		"a message":                    {&testv1.KeepRequest{Hidden: lock()}, []string{"hidden keep.hidden", "hidden lock.word", "hidden.word lock.word.field", "hidden.words string.max_len"}},
		"an Any":                       {&testv1.KeepRequest{Wrapped: parcel(tb, drawer())}, []string{" keep.wrapped", "wrapped keep.wrapped.field"}},
		"a field of a message": {
			&testv1.KeepRequest{Drawer: drawer()},
			[]string{" keep.drawer", "drawer drawer.content", "drawer.content string.max_len"},
		},
		"fields of messages in a list": {
			&testv1.KeepRequest{Row: []*testv1.Drawer{drawer(), drawer()}},
			[]string{"row keep.row", "row[0] drawer.content", "row[0].content string.max_len", "row[1] drawer.content", "row[1].content string.max_len"},
		},
		"fields of messages in a map": {
			&testv1.KeepRequest{Shelf: map[string]*testv1.Drawer{"left": {Behind: []*testv1.Drawer{drawer()}}}},
			[]string{`shelf["left"].behind[0] drawer.content`, `shelf["left"].behind[0].content string.max_len`},
		},
	}
}

// everywhere returns a request with the secret in all places.
func everywhere(tb testing.TB) *testv1.KeepRequest {
	tb.Helper()
	all := &testv1.KeepRequest{}
	for _, hidden := range hiding(tb) {
		if hidden.req.Key == nil {
			proto.Merge(all, hidden.req)
		}
	}
	all.Key = &testv1.KeepRequest_Pin{Pin: secret}
	return all
}

// shows reports whether a text contains a secret.
func shows(text string) bool {
	return strings.Contains(text, secret) || strings.Contains(text, strconv.FormatInt(code, 10))
}

// mustNotShow fails if any part of an error shows a secret.
func mustNotShow(tb testing.TB, err error) {
	tb.Helper()
	raw, marshalErr := proto.Marshal(status.Convert(err).Proto())
	if marshalErr != nil {
		tb.Fatal(marshalErr)
	}
	var logged strings.Builder
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("x", "err", err, "status", status.Convert(err), "details", fmt.Sprint(status.Convert(err).Details()...))
	var found *validate.Error
	if !errors.As(err, &found) {
		tb.Fatalf("%T is no Error", err)
	}
	written, jsonErr := json.Marshal(any(found))
	if jsonErr != nil {
		tb.Fatal(jsonErr)
	}
	for place, text := range map[string]string{
		"the text":           err.Error(),
		"the status":         string(raw),
		"the status' number": fmt.Sprint(status.Convert(err).Details()...),
		"a log of it":        logged.String(),
		"its fields":         fmt.Sprintf("%+v %#v", found, found.Violations),
		"its JSON":           string(written),
	} {
		if shows(text) {
			tb.Errorf("%s shows a secret: %q", place, text)
		}
	}
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		if shows(cause.Error()) {
			tb.Errorf("a cause shows a secret: %v", cause)
		}
	}
}

func TestNoErrorOfARequestShowsAHiddenValue(t *testing.T) {
	t.Parallel()
	method := compiled(t, "Keep")
	for title, test := range hiding(t) {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if own := protovalidate.Validate(test.req); own == nil || !shows(own.Error()) {
				t.Fatalf("the test is void, for not even protovalidate shows the secret: %v", own)
			}
			err := method.CheckRequest(test.req)
			if got := broken(err); !slices.Equal(got, test.want) {
				t.Errorf("violations = %q\nwant         %q", got, test.want)
			}
			mustNotShow(t, err)
		})
	}
	t.Run("everywhere at once", func(t *testing.T) {
		t.Parallel()
		err := method.CheckRequest(everywhere(t))
		if got := broken(err); len(got) < 20 {
			t.Errorf("only %d violations: %q", len(got), got)
		}
		mustNotShow(t, err)
	})
	t.Run("a rule that cannot be evaluated", func(t *testing.T) {
		t.Parallel()
		req := &testv1.LookupRequest{Secret: secret}
		if own := protovalidate.Validate(req); own == nil || !shows(own.Error()) {
			t.Fatalf("the test is void, for not even protovalidate shows the secret: %v", own)
		}
		mustNotShow(t, compiled(t, "Lookup").CheckRequest(req))
	})
}

func TestRulesOfHiddenFieldsAreToldWithoutTheirTexts(t *testing.T) {
	t.Parallel()
	hide := func(field *descriptorpb.FieldDescriptorProto) *descriptorpb.FieldDescriptorProto {
		field.Options.DebugRedact = new(true)
		return field
	}
	nameless := pb.FieldRules_builder{Cel: []*pb.Rule{pb.Rule_builder{Expression: new("'the text is ' + this")}.Build()}}.Build()
	file := schema(t, nil, message("Root", nil,
		hide(text("needed", pb.FieldRules_builder{Required: new(true)}.Build())),
		hide(text("nameless", nameless)),
		hide(text("divided", onField("1 / size(this) == 1"))),
	))
	root := file.Messages().ByName("Root")
	method, err := validate.NewCompiler(protoregistry.GlobalTypes).Compile("a.ask", file.Services().Get(0).Methods().Get(0))
	if err != nil {
		t.Fatal(err)
	}
	msg := dynamicpb.NewMessage(root)
	msg.Set(root.Fields().ByName("nameless"), protoreflect.ValueOfString(secret))
	msg.Set(root.Fields().ByName("divided"), protoreflect.ValueOfString(""))
	err = method.CheckRequest(msg)
	const want = "a.ask: the request breaks the API's rules: needed: value is required; " +
		"nameless: breaks a rule; the value is not shown; divided: the rule cannot be evaluated on these values [a.rule]"
	if err == nil || err.Error() != want {
		t.Fatalf("error = %v\nwant    %s", err, want)
	}
	mustNotShow(t, err)
}

func TestWhatIsNotHiddenIsShownBesideWhatIs(t *testing.T) {
	t.Parallel()
	err := compiled(t, "Keep").CheckRequest(&testv1.KeepRequest{
		Owner: "bad owner",
		Shelf: map[string]*testv1.Drawer{"left": {Name: "bad name", Content: secret}},
	})
	for _, want := range []string{"owner: the owner is bad owner [keep.owner]", `shelf["left"].name: the drawer is called bad name [drawer.name]`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v\nwant it to hold %q", err, want)
		}
	}
	var found *validate.Error
	if !errors.As(err, &found) {
		t.Fatal(err)
	}
	for _, violation := range found.Violations {
		if hidden := violation.Field == `shelf["left"].content`; violation.Hidden != hidden {
			t.Errorf("%+v, want Hidden %v", violation, hidden)
		}
	}
	for _, own := range violations(t, status.Convert(err)).GetViolations() {
		if own.GetRuleId() == "" || own.GetMessage() == "" {
			t.Errorf("protovalidate's violation lacks its rule or message: %v", own)
		}
	}
	mustNotShow(t, err)
}

func TestNeitherLogNorPeerSeesAHiddenValueOfAReply(t *testing.T) {
	t.Parallel()
	bad := &testv1.KeepResponse{
		Secret: secret,
		Labels: map[string]string{secret: secret},
		Drawer: &testv1.Drawer{Content: secret, Name: "bad name", Behind: []*testv1.Drawer{drawer()}},
		Note:   "far too long",
	}
	if own := protovalidate.Validate(bad); own == nil || !shows(own.Error()) {
		t.Fatalf("the test is void: %v", own)
	}
	conn, log := serve(t, &server{keep: func(*testv1.KeepRequest) (*testv1.KeepResponse, error) { return bad, nil }}, false)
	_, err := testv1.NewRulesServiceClient(conn).Keep(t.Context(), &testv1.KeepRequest{})
	sent := status.Convert(err)
	const want = "test.rules.keep: the reply breaks the API's rules: drawer [drawer.content]; drawer.name [drawer.name]; " +
		"drawer.behind[0] [drawer.content]; note [string.max_len]; 4 in fields that are not shown"
	if sent.Code() != codes.Internal || sent.Message() != want {
		t.Errorf("the peer gets %v\nwant           %s", sent, want)
	}
	raw, err := proto.Marshal(sent.Proto())
	if err != nil || shows(string(raw)) {
		t.Errorf("the status shows a secret, or cannot be written: %q, %v", raw, err)
	}
	for _, hidden := range []string{"secret", "labels", "bad name", "too long"} {
		if strings.Contains(string(raw), hidden) {
			t.Errorf("the status tells the peer of %s: %q", hidden, raw)
		}
	}
	if shows(log.String()) {
		t.Errorf("the log shows a secret: %s", log.String())
	}
	lines := linesOf(t, log)
	if len(lines) != 1 || lines[0].Level != "ERROR" || lines[0].RPC != "test.rules.keep" || lines[0].Violations != 8 {
		t.Fatalf("the log has %+v", lines)
	}
	wantFields := []string{"drawer", "drawer.behind[]", "drawer.behind[].content", "drawer.content", "drawer.name", "labels", "note", "secret"}
	slices.Sort(lines[0].Fields)
	if !slices.Equal(lines[0].Fields, wantFields) || !slices.Contains(lines[0].Rules, "kept.secret") {
		t.Errorf("the log has fields %q, rules %q\nwant        %q", lines[0].Fields, lines[0].Rules, wantFields)
	}
}

func TestTheErrorsOfARunningServerShowNoHiddenValue(t *testing.T) {
	t.Parallel()
	conn, log := serve(t, &server{}, true)
	client := testv1.NewRulesServiceClient(conn)
	req := everywhere(t)
	_, err := client.Keep(t.Context(), req)
	sent := status.Convert(err)
	raw, marshalErr := proto.Marshal(sent.Proto())
	if sent.Code() != codes.InvalidArgument || marshalErr != nil || shows(string(raw)) || shows(sent.Message()) {
		t.Errorf("status = %v, %v", sent, marshalErr)
	}
	if log.String() != "" {
		t.Errorf("the log has a caller's fault: %s", log.String())
	}
}
