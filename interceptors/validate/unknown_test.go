package validate_test

import (
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/onecall-dev/onecall/interceptors/validate"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// with returns msg with unknown fields. The value of each is the secret.
func with[M proto.Message](msg M, numbers ...protowire.Number) M {
	var raw []byte
	for _, number := range numbers {
		raw = protowire.AppendTag(raw, number, protowire.BytesType)
		raw = protowire.AppendString(raw, secret)
	}
	msg.ProtoReflect().SetUnknown(raw)
	return msg
}

func TestUnknownFieldsAreFoundAtEachDepth(t *testing.T) {
	t.Parallel()
	word := func() *testv1.FreeWord { return with(&testv1.FreeWord{}, 99) }
	wrapped, err := anypb.New(word())
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		msg  proto.Message
		want []string
	}{
		"none":                  {&testv1.FreeRequest{Words: []*testv1.FreeWord{{}, {}}}, nil},
		"nil":                   {nil, nil},
		"a nil pointer":         {(*testv1.FreeRequest)(nil), nil},
		"in the message":        {with(&testv1.FreeRequest{}, 99, 1<<29-1), []string{"536870911", "99"}},
		"as another type":       {with(&testv1.OrderItem{}, 2), []string{"price"}},
		"twice the same":        {with(&testv1.FreeRequest{}, 99, 98, 99), []string{"98", "99"}},
		"in a list":             {&testv1.FreeRequest{Words: []*testv1.FreeWord{{}, word()}}, []string{"words[1].99"}},
		"in a map":              {&testv1.FreeRequest{Index: map[string]*testv1.FreeWord{"a": word(), "b": {}}}, []string{`index["a"].99`}},
		"in a map of numbers":   {&testv1.OrderRequest{Shelves: map[int32]*testv1.OrderItem{-3: with(&testv1.OrderItem{}, 9)}}, []string{"shelves[-3].9"}},
		"in a hidden map":       {&testv1.FreeRequest{Hidden: map[string]*testv1.FreeWord{secret: word()}}, []string{"hidden[…].99"}},
		"in a oneof":            {&testv1.OrderRequest{Payment: &testv1.OrderRequest_Barter{Barter: with(&testv1.OrderItem{}, 9)}}, []string{"barter.9"}},
		"below one another":     {&testv1.FreeRequest{Words: []*testv1.FreeWord{{Next: &testv1.FreeWord{Next: word()}}}}, []string{"words[0].next.next.99"}},
		"in several":            {with(&testv1.FreeRequest{Words: []*testv1.FreeWord{word()}}, 99), []string{"99", "words[0].99"}},
		"in what an Any wraps":  {&testv1.FreeRequest{Extra: wrapped}, nil},
		"in the Any itself":     {&testv1.FreeRequest{Extra: with(&anypb.Any{}, 7)}, []string{"extra.7"}},
		"in an ignored message": {&testv1.FreeRequest{Ignored: with(&testv1.OrderItem{}, 7)}, []string{"ignored.7"}},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			err := validate.UnknownFields("test.rules.free", test.msg)
			if len(test.want) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			sent := status.Convert(err)
			var fields []string
			for _, violation := range badRequest(t, sent).GetFieldViolations() {
				fields = append(fields, violation.GetField())
				says := " has no field "
				if violation.GetField() == "price" {
					says = " has a field price of another type than came"
				}
				if violation.GetReason() != "unknown_field" || !strings.Contains(violation.GetDescription(), says) {
					t.Errorf("violation = %v", violation)
				}
			}
			slices.Sort(fields)
			if sent.Code() != codes.InvalidArgument || !slices.Equal(fields, test.want) {
				t.Errorf("status = %v\nfields = %q, want %q", sent, fields, test.want)
			}
			mustNotShow(t, err)
		})
	}
}

func TestTheTextNamesTheTypeAndTheNumber(t *testing.T) {
	t.Parallel()
	err := validate.UnknownFields("test.rules.free", &testv1.FreeRequest{Words: []*testv1.FreeWord{with(&testv1.FreeWord{}, 99)}})
	const want = "test.rules.free: the request breaks the API's rules: words[0].99: onecall.test.v1.FreeWord has no field 99 [unknown_field]"
	if err == nil || err.Error() != want {
		t.Errorf("error = %v\nwant    %s", err, want)
	}
}

func TestUnknownFieldsInExtensionsAreFound(t *testing.T) {
	t.Parallel()
	root := message("Root", nil)
	root.ExtensionRange = []*descriptorpb.DescriptorProto_ExtensionRange{{Start: new(int32(100)), End: new(int32(200))}}
	further := holding("further", "Empty", nil)
	further.Number, further.Extendee = new(int32(100)), new(".a.Root")
	file := schema(t, []*descriptorpb.FieldDescriptorProto{further}, root)
	kind := dynamicpb.NewExtensionType(file.Extensions().Get(0))
	msg := dynamicpb.NewMessage(file.Messages().ByName("Root"))
	empty := dynamicpb.NewMessage(file.Messages().ByName("Empty"))
	proto.SetExtension(msg, kind, empty)
	if err := validate.UnknownFields("a.ask", msg); err != nil {
		t.Errorf("without unknown fields: %v", err)
	}
	with(empty, 99)
	if got := broken(validate.UnknownFields("a.ask", msg)); !slices.Equal(got, []string{"[a.further].99 unknown_field"}) {
		t.Errorf("violations = %q", got)
	}
}

func TestUnknownFieldsThatTheProgramMadeUpAreNoReasonToPanic(t *testing.T) {
	t.Parallel()
	req := with(&testv1.FreeRequest{}, 99)
	req.ProtoReflect().SetUnknown(append(req.ProtoReflect().GetUnknown(), 0xff))
	if got := broken(validate.UnknownFields("test.rules.free", req)); !slices.Equal(got, []string{"99 unknown_field"}) {
		t.Errorf("violations = %q", got)
	}
}

func TestAStreamWithoutRulesIsSearchedForUnknownFieldsToo(t *testing.T) {
	t.Parallel()
	without := map[string]validate.Method{testv1.RulesService_Haggle_FullMethodName: {RPC: "test.rules.haggle"}}
	conn := serveWith(t, stubborn(func(err error) error { return err }),
		grpc.StreamInterceptor(validate.StreamServerInterceptor(slog.New(slog.DiscardHandler), without, true)))
	stream, err := testv1.NewRulesServiceClient(conn).Haggle(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(with(&testv1.HaggleRequest{}, 99)); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "test.rules.haggle: ") {
		t.Errorf("error = %v", err)
	}
}

func TestOfManyUnknownFieldsTheNumberIsTold(t *testing.T) {
	t.Parallel()
	req := &testv1.FreeRequest{}
	for range 1000 {
		req.Words = append(req.Words, with(&testv1.FreeWord{}, 99))
	}
	err := validate.UnknownFields("test.rules.free", req)
	var found *validate.Error
	if !errors.As(err, &found) || len(found.Violations) != 100 || !strings.Contains(err.Error(), "; and 990 more (the details hold the first ") {
		t.Errorf("error = %v", err)
	}
	if size := headerSize(t, status.Convert(err)); size > 7500 {
		t.Errorf("the status takes %d bytes", size)
	}
}

func TestAServerAcceptsUnknownFieldsUnlessToldNotTo(t *testing.T) {
	t.Parallel()
	for title, refuse := range map[string]bool{"by default": false, "when told to refuse them": true} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			impl := stubborn(func(err error) error { return err })
			impl.free = func(*testv1.FreeRequest) (*testv1.FreeResponse, error) { return &testv1.FreeResponse{}, nil }
			impl.check = func(*testv1.CheckRequest) (*testv1.CheckResponse, error) {
				return with(&testv1.CheckResponse{}, 99), nil // a reply with unknown fields is never refused
			}
			conn, _ := serve(t, impl, refuse)
			client := testv1.NewRulesServiceClient(conn)
			_, unary := client.Free(t.Context(), with(&testv1.FreeRequest{}, 99))
			stream, err := client.Haggle(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Send(with(&testv1.HaggleRequest{Price: 1}, 99)); err != nil {
				t.Fatal(err)
			}
			_, streamed := stream.Recv()
			want := codes.OK
			if refuse {
				want = codes.InvalidArgument
			}
			if status.Code(unary) != want || status.Code(streamed) != want {
				t.Errorf("a unary call: %v, a stream: %v; want %v", unary, streamed, want)
			}
			if _, err := client.Check(t.Context(), &testv1.CheckRequest{Username: "adam", Password: "correct horse"}); err != nil {
				t.Errorf("a reply with unknown fields: %v", err)
			}
		})
	}
}
