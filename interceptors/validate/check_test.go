package validate_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	pb "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/onecall-dev/onecall/interceptors/validate"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// fine returns an order that breaks no rule.
func fine() *testv1.OrderRequest {
	return &testv1.OrderRequest{
		Customer: "adam",
		Items:    []*testv1.OrderItem{{Name: "tea", Price: 1}},
		Payment:  &testv1.OrderRequest_Account{Account: "1234"},
	}
}

// order returns a valid order after a change.
func order(change func(*testv1.OrderRequest)) *testv1.OrderRequest {
	req := fine()
	change(req)
	return req
}

// broken returns the fields and rules of an error, in the order of the fields.
func broken(err error) []string {
	var found *validate.Error
	if !errors.As(err, &found) {
		return nil
	}
	var all []string
	for _, violation := range found.Violations {
		all = append(all, violation.Field+" "+violation.Rule)
	}
	slices.Sort(all)
	return all
}

func TestEachViolationIsToldWithItsPath(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		req  *testv1.OrderRequest
		want []string
	}{
		"none":                 {fine(), nil},
		"a scalar":             {order(func(r *testv1.OrderRequest) { r.Customer = "" }), []string{"customer string.min_len"}},
		"an empty list":        {order(func(r *testv1.OrderRequest) { r.Items = nil }), []string{"items repeated.min_items"}},
		"an element of a list": {order(func(r *testv1.OrderRequest) { r.Items = []*testv1.OrderItem{{Price: 1}, {Price: 2}, {}} }), []string{"items[2].price int64.gt"}},
		"a nil element":        {order(func(r *testv1.OrderRequest) { r.Items = append(r.Items, nil) }), []string{"items[1].price int64.gt"}},
		"a map's value":        {order(func(r *testv1.OrderRequest) { r.Labels = map[string]string{"a": "far too long"} }), []string{`labels["a"] string.max_len`}},
		"a map's key":          {order(func(r *testv1.OrderRequest) { r.Labels = map[string]string{"": "short"} }), []string{`labels[""] string.min_len`}},
		"a key with quotes": {
			order(func(r *testv1.OrderRequest) { r.Labels = map[string]string{"a\"b\n": "far too long"} }),
			[]string{`labels["a\"b\n"] string.max_len`},
		},
		"a key that is a number": {order(func(r *testv1.OrderRequest) { r.Shelves = map[int32]*testv1.OrderItem{-7: {}} }), []string{"shelves[-7].price int64.gt"}},
		"a key without sign":     {order(func(r *testv1.OrderRequest) { r.Boxes = map[uint64]*testv1.OrderItem{1 << 63: nil} }), []string{"boxes[9223372036854775808].price int64.gt"}},
		"a key that is a bool":   {order(func(r *testv1.OrderRequest) { r.Fragile = map[bool]*testv1.OrderItem{true: {}} }), []string{"fragile[true].price int64.gt"}},
		"a oneof that is unset":  {order(func(r *testv1.OrderRequest) { r.Payment = nil }), []string{"payment required"}},
		"a oneof's scalar":       {order(func(r *testv1.OrderRequest) { r.Payment = &testv1.OrderRequest_Account{Account: "1"} }), []string{"account string.len"}},
		"a oneof's message": {
			order(func(r *testv1.OrderRequest) {
				r.Payment = &testv1.OrderRequest_Barter{Barter: &testv1.OrderItem{}}
			}),
			[]string{"barter.price int64.gt"},
		},
		"a message in a message": {order(func(r *testv1.OrderRequest) { r.Gift = &testv1.OrderItem{Price: -1} }), []string{"gift.price int64.gt"}},
		"a message in itself": {
			order(func(r *testv1.OrderRequest) {
				r.Node = &testv1.OrderNode{Name: "a", Children: []*testv1.OrderNode{{Name: "b"}, {Children: []*testv1.OrderNode{{}}}}}
			}),
			[]string{"node.children[1].children[0].name string.min_len", "node.children[1].name string.min_len"},
		},
		"the message as a whole": {order(func(r *testv1.OrderRequest) { r.Customer = "nobody" }), []string{" order.customer"}},
		"all at once": {
			&testv1.OrderRequest{
				Customer: "nobody",
				Items:    []*testv1.OrderItem{{}, {Price: -1}},
				Labels:   map[string]string{"a": "far too long", "b": "far too long", "c": "short"},
				Gift:     &testv1.OrderItem{},
			},
			[]string{
				" order.customer", "gift.price int64.gt", "items[0].price int64.gt", "items[1].price int64.gt",
				`labels["a"] string.max_len`, `labels["b"] string.max_len`, "payment required",
			},
		},
	}
	method := compiled(t, "Order")
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			err := method.CheckRequest(test.req)
			if got := broken(err); !slices.Equal(got, test.want) {
				t.Fatalf("violations = %q\nwant         %q\nerror: %v", got, test.want, err)
			}
			if len(test.want) == 0 {
				return
			}
			sent := status.Convert(err)
			if sent.Code() != codes.InvalidArgument || sent.Message() != err.Error() {
				t.Errorf("status = %v of error %q", sent, err)
			}
			var fields []string
			for _, violation := range badRequest(t, sent).GetFieldViolations() {
				fields = append(fields, violation.GetField()+" "+violation.GetReason())
				if violation.GetDescription() == "" {
					t.Errorf("%s has no description", violation.GetField())
				}
				if !strings.Contains(err.Error(), violation.GetDescription()) {
					t.Errorf("the text lacks %q: %s", violation.GetDescription(), err)
				}
			}
			slices.Sort(fields)
			if !slices.Equal(fields, test.want) {
				t.Errorf("BadRequest has %q\nwant           %q", fields, test.want)
			}
			var own []string
			for _, violation := range violations(t, sent).GetViolations() {
				own = append(own, protovalidate.FieldPathString(violation.GetField())+" "+violation.GetRuleId())
			}
			slices.Sort(own)
			if !slices.Equal(own, test.want) {
				t.Errorf("Violations has %q\nwant           %q", own, test.want)
			}
		})
	}
}

// detail returns the only detail of type M.
func detail[M proto.Message](tb testing.TB, sent *status.Status) M {
	tb.Helper()
	var found M
	count := 0
	for _, held := range sent.Details() {
		if is, ok := held.(M); ok {
			found = is
			count++
		}
	}
	if count != 1 {
		tb.Fatalf("the status has %d details of type %T, want one: %v", count, found, sent.Details())
	}
	return found
}

func badRequest(tb testing.TB, sent *status.Status) *errdetails.BadRequest {
	tb.Helper()
	return detail[*errdetails.BadRequest](tb, sent)
}

func violations(tb testing.TB, sent *status.Status) *pb.Violations {
	tb.Helper()
	return detail[*pb.Violations](tb, sent)
}

func TestTheTextOfAnErrorSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err  error
		want string
	}{
		"one field": {
			compiled(t, "Order").CheckRequest(order(func(r *testv1.OrderRequest) { r.Items[0].Price = 0 })),
			"test.rules.order: the request breaks the API's rules: items[0].price: must be greater than 0 [int64.gt]",
		},
		"the message as a whole": {
			compiled(t, "Order").CheckRequest(order(func(r *testv1.OrderRequest) { r.Customer = "nobody" })),
			"test.rules.order: the request breaks the API's rules: breaks the rule order.customer; the value is not shown", // its Any may contain anything
		},
		"a message as a whole": {
			compiled(t, "Order").CheckRequest(order(func(r *testv1.OrderRequest) { r.Node = &testv1.OrderNode{Name: "nobody"} })),
			"test.rules.order: the request breaks the API's rules: node: no node is called nobody [node.name]",
		},
		"a hidden field with a rule about its size": {
			compiled(t, "Check").CheckRequest(&testv1.CheckRequest{Username: "adam", Password: "secr3t"}),
			"test.rules.check: the request breaks the API's rules: password: breaks the rule string.min_len = 8; the value is not shown",
		},
		"a reply": {
			compiled(t, "Order").CheckReply(&testv1.OrderResponse{Id: -1, Items: []*testv1.OrderItem{{}}}),
			"test.rules.order: the reply breaks the API's rules: id [int64.gt]; items[0].price [int64.gt]",
		},
		"a reply with hidden fields": {
			compiled(t, "Keep").CheckReply(&testv1.KeepResponse{Secret: "top", Note: "far too long"}),
			"test.rules.keep: the reply breaks the API's rules: note [string.max_len]; 1 in fields that are not shown",
		},
		"an error that somebody else made": {
			&validate.Error{RPC: "a.b", Violations: []validate.Violation{{Field: "c", Rule: "d", Message: "e"}, {}}},
			"a.b: the request breaks the API's rules: c: e [d]; the message as a whole",
		},
		"eleven fields": {
			compiled(t, "Sum").CheckRequest(&testv1.SumRequest{Numbers: make([]int32, 11)}),
			"test.rules.sum: the request breaks the API's rules: " + strings.Join(zeros(10), "; ") + "; and 1 more",
		},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if test.err == nil || test.err.Error() != test.want {
				t.Errorf("error = %v\nwant    %s", test.err, test.want)
			}
		})
	}
}

func zeros(count int) []string {
	all := make([]string, count)
	for i := range all {
		all[i] = fmt.Sprintf("numbers[%d]: must be greater than 0 [int32.gt]", i)
	}
	return all
}

func TestReplies(t *testing.T) {
	t.Parallel()
	method := compiled(t, "Order")
	if err := method.CheckReply(&testv1.OrderResponse{Id: 1}); err != nil {
		t.Errorf("a reply that keeps to the rules: %v", err)
	}
	err := method.CheckReply(&testv1.OrderResponse{})
	var fault *validate.Error
	if !errors.As(fmt.Errorf("wrapped: %w", err), &fault) || !fault.Reply || fault.RPC != "test.rules.order" {
		t.Fatalf("error = %#v", err)
	}
	sent := status.Convert(err)
	if sent.Code() != codes.Internal || len(sent.Details()) != 1 || len(violations(t, sent).GetViolations()) != 1 {
		t.Errorf("status = %v, details %v; want INTERNAL with protovalidate's violations", sent, sent.Details())
	}
}

func TestOneMessageCanBreakMoreRulesThanAnyoneWantsToRead(t *testing.T) {
	t.Parallel()
	huge := strings.Repeat("ö\n", 1<<19)
	long := make(map[string]string)
	for i := range 12 {
		long[strings.Repeat("ö", 70)+strconv.Itoa(i)] = "far too long"
	}
	deep := func(levels int) *testv1.OrderRequest {
		node := &testv1.OrderNode{}
		for range levels - 1 {
			node = &testv1.OrderNode{Children: []*testv1.OrderNode{node}}
		}
		return order(func(r *testv1.OrderRequest) { r.Node = node })
	}
	tests := map[string]struct {
		method string
		req    proto.Message
		count  int
	}{
		"a thousand elements": {"Sum", &testv1.SumRequest{Numbers: make([]int32, 1000)}, 1000},
		"a million elements":  {"Sum", &testv1.SumRequest{Numbers: make([]int32, 1<<20)}, 1},
		"a key of a megabyte": {"Order", order(func(r *testv1.OrderRequest) { r.Labels = map[string]string{huge: "far too long"} }), 1},
		"a key that is no UTF-8": {
			"Order",
			order(func(r *testv1.OrderRequest) { r.Labels = map[string]string{"\xff": "far too long"} }), 1,
		},
		"a text of a megabyte":    {"Keep", &testv1.KeepRequest{Owner: "bad" + huge}, 1},
		"a text that is no UTF-8": {"Keep", &testv1.KeepRequest{Owner: "bad\xff"}, 1},
		"64 levels":               {"Order", deep(64), 64},
		"two thousand levels":     {"Order", deep(2000), 1},
		"a dozen long keys":       {"Order", order(func(r *testv1.OrderRequest) { r.Labels = long }), 12},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			err := compiled(t, test.method).CheckRequest(test.req)
			if got := broken(err); len(got) != test.count {
				t.Fatalf("%d violations, want %d", len(got), test.count)
			}
			sent := status.Convert(err)
			if sent.Code() != codes.InvalidArgument || len(badRequest(t, sent).GetFieldViolations()) == 0 {
				t.Fatalf("status = %v", sent)
			}
			if size := headerSize(t, sent); size > 7500 {
				t.Errorf("the status takes %d bytes of a header list", size)
			}
			if partial := strings.HasSuffix(sent.Message(), "; and maybe more, which are not listed for a message so large"); partial != (title == "a million elements" || title == "two thousand levels") {
				t.Errorf("the text does not say whether it tells all: %s", sent.Message())
			}
			held := len(badRequest(t, sent).GetFieldViolations())
			if told := fmt.Sprintf("(the details hold the first %d)", held); strings.Contains(sent.Message(), told) != (held < test.count) {
				t.Errorf("the details hold %d of %d: %s", held, test.count, sent.Message())
			}
		})
	}
}

// headerSize returns the size of a status in a header list, as HTTP/2 counts it.
func headerSize(tb testing.TB, sent *status.Status) int {
	tb.Helper()
	const overhead = 32
	size := overhead + len("grpc-message") + overhead + len("grpc-status-details-bin")
	for i := range len(sent.Message()) {
		if c := sent.Message()[i]; c >= ' ' && c <= '~' && c != '%' {
			size++
		} else {
			size += len("%00")
		}
	}
	raw, err := proto.Marshal(sent.Proto())
	if err != nil {
		tb.Fatal(err)
	}
	return size + (len(raw)*4+2)/3
}

func TestOfAMessageThatHoldsItselfTooOftenTheFirstViolationIsTold(t *testing.T) {
	t.Parallel()
	file := schema(t, nil, message("Root", nil, holding("root", "Root", nil), text("word", pattern("^a$"))))
	root := file.Messages().ByName("Root")
	method, err := validate.NewCompiler(protoregistry.GlobalTypes).Compile("a.ask", file.Services().Get(0).Methods().Get(0))
	if err != nil {
		t.Fatal(err)
	}
	msg := dynamicpb.NewMessage(root)
	for range 1000 {
		outer := dynamicpb.NewMessage(root)
		outer.Set(root.Fields().ByName("root"), protoreflect.ValueOfMessage(msg))
		outer.Set(root.Fields().ByName("word"), protoreflect.ValueOfString("b"))
		msg = outer
	}
	if got := broken(method.CheckRequest(msg)); len(got) != 1 {
		t.Errorf("%d violations", len(got))
	}
}

func TestARuleThatCannotBeEvaluatedIsToldWithTheOthers(t *testing.T) {
	t.Parallel()
	method := compiled(t, "Lookup")
	if err := method.CheckRequest(&testv1.LookupRequest{Index: map[string]bool{"x": true}, Secret: "x"}); err != nil {
		t.Fatal(err)
	}
	err := method.CheckRequest(&testv1.LookupRequest{Secret: "hush", Name: "far too long"})
	if got, want := broken(err), []string{" lookup.known", "name string.max_len"}; !slices.Equal(got, want) {
		t.Errorf("violations = %q, want %q", got, want)
	}
	if err != nil && !strings.Contains(err.Error(), "the rule cannot be evaluated on these values [lookup.known]") {
		t.Errorf("error = %v", err)
	}
}

func TestMessagesThatAreNoneOfProtobufsPass(t *testing.T) {
	t.Parallel()
	for _, msg := range []any{"text", 1, struct{}{}, []byte("x"), &struct{ Username string }{}} {
		if err := errors.Join(compiled(t, "Check").CheckRequest(msg), compiled(t, "Order").CheckReply(msg)); err != nil {
			t.Errorf("%T: %v", msg, err)
		}
	}
}

// old is a message of the first Go API of protobuf, with reflection.
type old struct{ inner *testv1.CheckRequest }

func (o *old) Reset()                             { o.inner = &testv1.CheckRequest{} }
func (o *old) String() string                     { return o.inner.String() }
func (*old) ProtoMessage()                        {}
func (o *old) ProtoReflect() protoreflect.Message { return o.inner.ProtoReflect() }

// older is such a message without reflection.
type older struct {
	Username string `protobuf:"bytes,1,opt,name=username,proto3"`
}

func (o *older) Reset()         { *o = older{} }
func (o *older) String() string { return o.Username }
func (*older) ProtoMessage()    {}

func TestMessagesOfOlderGenerationsAreTakenAsGRPCTakesThem(t *testing.T) {
	t.Parallel()
	method := compiled(t, "Check")
	if got := broken(method.CheckRequest(&old{&testv1.CheckRequest{Username: "adam"}})); !slices.Equal(got, []string{"password string.min_len"}) {
		t.Errorf("violations = %q", got)
	}
	if err := method.CheckRequest(&older{}); err != nil { // its type has no rules
		t.Error(err)
	}
}

func TestNilMessagesAreCheckedAsTheEmptyOnesTheyAreSentAs(t *testing.T) {
	t.Parallel()
	want := []string{"password string.min_len", "username string.min_len"}
	for title, msg := range map[string]any{"nil": nil, "a nil pointer": (*testv1.CheckRequest)(nil), "an empty message": &testv1.CheckRequest{}} {
		t.Run(title, func(t *testing.T) {
			if got := broken(compiled(t, "Check").CheckRequest(msg)); !slices.Equal(got, want) {
				t.Errorf("%s: violations = %q, want %q", title, got, want)
			}
		})
	}
	for _, msg := range []*testv1.OrderRequest{nil, order(func(r *testv1.OrderRequest) { r.Payment = (*testv1.OrderRequest_Barter)(nil) }), order(func(r *testv1.OrderRequest) {
		r.Payment = &testv1.OrderRequest_Barter{}
	})} {
		if err := compiled(t, "Order").CheckRequest(msg); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", msg, err)
		}
	}
}

func TestWhatAnAnyHoldsIsNotLookedInto(t *testing.T) {
	t.Parallel()
	wrapped, err := anypb.New(&testv1.OrderItem{Price: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := compiled(t, "Order").CheckRequest(order(func(r *testv1.OrderRequest) { r.Extra = wrapped })); err != nil {
		t.Error(err)
	}
}

func TestManyGoroutinesCheckAtOnce(t *testing.T) {
	t.Parallel()
	compiler := validate.NewCompiler(protoregistry.GlobalTypes)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			method, err := compiler.Compile("test.rules.order", service().ByName("Order"))
			if err != nil {
				t.Error(err)
				return
			}
			for range 50 {
				if err := method.CheckRequest(fine()); err != nil {
					t.Error(err)
				}
				if got := broken(method.CheckRequest(&testv1.OrderRequest{Customer: "nobody"})); len(got) != 3 {
					t.Errorf("violations = %q", got)
				}
			}
		})
	}
	all.Wait()
}

func TestMessagesWithoutRulesHaveNoChecker(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ request, reply bool }{
		"Check":  {true, false},
		"Order":  {true, true},
		"Keep":   {true, true},
		"Lookup": {true, false},
		"Sum":    {true, false},
		"Free":   {false, false},
		"Give":   {true, false},
		"Follow": {true, true},
		"Gather": {true, true},
		"Haggle": {true, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			method := compiled(t, name)
			if method.RPC != "test.rules."+strings.ToLower(name) || (method.Request != nil) != test.request || (method.Reply != nil) != test.reply {
				t.Errorf("%s: %+v, want a checker of requests %v, of replies %v", name, method, test.request, test.reply)
			}
			if method.Checks() != (test.request || test.reply) {
				t.Errorf("%s: Checks = %v", name, method.Checks())
			}
		})
	}
	if len(tests) != service().Len() {
		t.Errorf("%d of %d methods are tested", len(tests), service().Len())
	}
	var none validate.Method
	if err := errors.Join(none.CheckRequest(&testv1.OrderRequest{}), none.CheckReply(nil)); err != nil {
		t.Error(err)
	}
}
