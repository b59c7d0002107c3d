package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"

	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// shopProto is an API before a change.
const shopProto = `syntax = "proto3";

package shop.v1;

import "google/protobuf/timestamp.proto";
import "onecall/v1/options.proto";

option go_package = "example.com/shop/v1;shopv1";

service ShopService {
  option (onecall.v1.api) = {name: "shop"};

  rpc PlaceOrder(PlaceOrderRequest) returns (PlaceOrderResponse);

  rpc GetOrder(GetOrderRequest) returns (GetOrderResponse) {
    option idempotency_level = NO_SIDE_EFFECTS;
  }
}

message PlaceOrderRequest {
  string item = 1;
  int32 quantity = 2;
  optional string note = 3;
  oneof payment {
    string card = 4;
    string invoice = 5;
  }
}

message PlaceOrderResponse {
  Order order = 1;
}

message GetOrderRequest {
  string id = 1;
}

message GetOrderResponse {
  Order order = 1;
}

message Order {
  string id = 1;
  State state = 2;
  google.protobuf.Timestamp placed_at = 3;
  repeated string tags = 4;
}

enum State {
  STATE_UNSPECIFIED = 0;
  STATE_PLACED = 1;
  STATE_SENT = 2;
}
`

// protoFolder writes a .proto file into a folder, and returns that.
func protoFolder(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "shop.proto"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// replaced returns the API after replacements of pairs of texts, of which each is there.
func replaced(t *testing.T, pairs ...string) string {
	t.Helper()
	text := shopProto
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("no %q", pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// TestDiffFindsEachKindOfChangeThatBreaks plants a change of each kind.
func TestDiffFindsEachKindOfChangeThatBreaks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		replace []string
		// want are lines with what the change breaks, its kind, its part, and the part before
		// and after.
		want []string
	}{
		"nothing":                    {nil, nil},
		"a comment":                  {[]string{"message Order {", "// An order.\nmessage Order {"}, nil},
		"an RPC more":                {[]string{"  rpc PlaceOrder(", "  rpc Count(GetOrderRequest) returns (GetOrderResponse);\n  rpc PlaceOrder("}, nil},
		"an optional field":          {[]string{"  int32 quantity = 2;", "  int32 quantity = 2;\n  optional string color = 6;"}, nil},
		"a field of a reply":         {[]string{"  repeated string tags = 4;", "  repeated string tags = 4;\n  string color = 5;"}, nil},
		"an enum value":              {[]string{"  STATE_SENT = 2;", "  STATE_SENT = 2;\n  STATE_LOST = 3;"}, nil},
		"the API":                    {[]string{"package shop.v1", "package cart.v1", `"shop"`, `"cart"`}, []string{"wire,code,names|API removed|shop|an API|"}},
		"the API's name":             {[]string{`"shop"`, `"cart"`}, []string{"wire,names|API renamed|shop|named shop|named cart"}},
		"the service's name":         {[]string{"service ShopService", "service CartService"}, []string{"wire,code|service renamed|shop|/shop.v1.ShopService|/shop.v1.CartService"}},
		"the package":                {[]string{"package shop.v1", "package shop.v2"}, []string{"wire,code|service renamed|shop|/shop.v1.ShopService|/shop.v2.ShopService"}},
		"go_package":                 {[]string{"example.com/shop/v1;", "example.com/shop/v2;"}, []string{"code|go_package changed|shop|example.com/shop/v1;shopv1|example.com/shop/v2;shopv1"}},
		"an RPC gone":                {[]string{"  rpc PlaceOrder(PlaceOrderRequest) returns (PlaceOrderResponse);\n", ""}, []string{"wire,code,names|RPC removed|shop.place_order|an RPC|"}},
		"an RPC's name":              {[]string{"rpc PlaceOrder(", "rpc MakeOrder("}, []string{"wire,code,names|RPC renamed|shop.place_order|an RPC|named shop.make_order"}},
		"a stream":                   {[]string{"returns (PlaceOrderResponse)", "returns (stream PlaceOrderResponse)"}, []string{"wire,code,names|stream changed|shop.place_order|one message to one message|one message to a stream"}},
		"idempotency":                {[]string{"NO_SIDE_EFFECTS", "IDEMPOTENCY_UNKNOWN"}, []string{"wire|idempotency removed|shop.get_order|idempotent|not idempotent"}},
		"weaker idempotency":         {[]string{"NO_SIDE_EFFECTS", "IDEMPOTENT"}, nil},
		"a request's message":        {[]string{"GetOrderRequest", "FindOrderRequest"}, []string{"code|message renamed|shop.get_order: request|shop.v1.GetOrderRequest|shop.v1.FindOrderRequest"}},
		"a message":                  {[]string{"Order order", "Purchase order", "message Order {", "message Purchase {"}, []string{"code|message renamed|shop.place_order: reply.order|shop.v1.Order|shop.v1.Purchase", "code|message renamed|shop.get_order: reply.order|shop.v1.Order|shop.v1.Purchase"}},
		"an enum's name":             {[]string{"State state", "Status state", "enum State", "enum Status"}, []string{"code|enum renamed|shop.place_order: reply.order.state|shop.v1.State|shop.v1.Status"}},
		"a field gone":               {[]string{"  repeated string tags = 4;\n", ""}, []string{"code,names|field removed|shop.place_order: reply.order.tags|a field|"}},
		"an optional parameter gone": {[]string{"  optional string note = 3;\n", ""}, []string{"code,names|field removed|shop.place_order: request.note|a field|"}},
		"a field's name":             {[]string{"string item = 1", "string goods = 1"}, []string{"code,names|field renamed|shop.place_order: request.item|number 1|named goods"}},
		"a field's number":           {[]string{"string item = 1", "string item = 7"}, []string{"wire|field renumbered|shop.place_order: request.item|number 1|number 7"}},
		"a number again":             {[]string{"optional string note = 3", "optional int64 color = 3"}, []string{"wire,code,names|number reused|shop.place_order: request.note|number 3|named color"}},
		"a type":                     {[]string{"int32 quantity", "int64 quantity"}, []string{"wire,code,names|type changed|shop.place_order: request.quantity|int32|int64"}},
		"a well-known type":          {[]string{"google.protobuf.Timestamp placed_at", "State placed_at"}, []string{"wire,code,names|type changed|shop.place_order: reply.order.placed_at|message|enum"}},
		"cardinality":                {[]string{"repeated string tags", "string tags"}, []string{"wire,code,names|cardinality changed|shop.place_order: reply.order.tags|repeated|one value"}},
		"presence":                   {[]string{"int32 quantity = 2", "optional int32 quantity = 2"}, []string{"wire,code|presence changed|shop.place_order: request.quantity|without presence|with presence"}},
		"a oneof":                    {[]string{"  optional string note = 3;\n  oneof payment {\n", "  oneof payment {\n    string note = 3;\n"}, []string{"wire,code|presence changed|shop.place_order: request.note|with presence|in a oneof"}},
		"two oneofs":                 {[]string{"    string invoice = 5;", "  }\n  oneof other {\n    string invoice = 5;"}, []string{"wire,code|oneof changed|shop.place_order: request.invoice|in the oneof of card|not in the oneof of card"}},
		"a required field":           {[]string{"  int32 quantity = 2;", "  int32 quantity = 2;\n  string color = 6;"}, []string{"wire,names|required field added|shop.place_order: request.color||required"}},
		"no required field":          {[]string{"  int32 quantity = 2;\n", ""}, []string{"wire,code,names|required field removed|shop.place_order: request.quantity|required|"}},
		"a value gone":               {[]string{"  STATE_SENT = 2;\n", ""}, []string{"wire,code,names|enum value removed|shop.place_order: reply.order.state STATE_SENT|number 2|"}},
		"a value's name":             {[]string{"STATE_SENT = 2", "STATE_SHIPPED = 2"}, []string{"code,names|enum value renamed|shop.place_order: reply.order.state STATE_SENT|number 2|named STATE_SHIPPED"}},
		"a value's number":           {[]string{"STATE_SENT = 2", "STATE_SENT = 3"}, []string{"wire|enum value renumbered|shop.place_order: reply.order.state STATE_SENT|number 2|number 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := run(t, place{}, "", "schema", "diff", protoFolder(t, shopProto), protoFolder(t, replaced(t, test.replace...)), "-o", "plain")
			code := 0
			if len(test.want) > 0 {
				code = 1
			}
			var lines []string
			for line := range strings.Lines(got.out) {
				cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
				if len(cells) != 6 || cells[5] == "" {
					t.Errorf("no remedy: %q", line)
				}
				lines = append(lines, strings.Join(cells[:min(len(cells), 5)], "|"))
			}
			if strings.Join(lines, "\n") != strings.Join(test.want, "\n") || got.code != code || (got.errs != "") != (code == 1) {
				t.Errorf("%+v, want\n%s", got, strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestDiffListsOnlyWhatBreaksOneOfThese filters, and refuses what is no effect.
func TestDiffListsOnlyWhatBreaksOneOfThese(t *testing.T) {
	t.Parallel()
	before, after := protoFolder(t, shopProto), protoFolder(t, replaced(t, "string item = 1", "string goods = 1"))
	for breaks, want := range map[string]result{
		"wire":       {},
		"wire,names": {out: `{"breaks":["code","names"],"kind":"field renamed","part":"shop.place_order: request.item","old":"number 1","new":"named goods","remedy":"keep the field, and add one with another name and number","strictSchema":true}` + "\n", errs: "onecall: 1 change breaks callers\n", code: 1},
		"bytes":      {errs: `onecall: --breaks "bytes": a change can break wire, code and names` + "\n", code: 2},
	} {
		if got := run(t, place{}, "", "schema", "diff", before, after, "--breaks", breaks, "-o", "jsonl"); got != want {
			t.Errorf("%s: %+v, want %+v", breaks, got, want)
		}
	}
}

// TestSchemasOfFoldersFilesAndARegistryAreTheSame dumps an API from each.
func TestSchemasOfFoldersFilesAndARegistryAreTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	folder := filepath.Join("..", "..", "examples", "auth", "proto")
	type api struct {
		API         string `json:"api"`
		Service     string `json:"service"`
		Schema      string `json:"schema"`
		Descriptors string `json:"descriptors"`
	}
	read := func(got result) []api {
		t.Helper()
		var content struct {
			APIs []api `json:"apis"`
		}
		if err := json.Unmarshal([]byte(got.out), &content); err != nil || got.code != 0 || got.errs != "" {
			t.Fatalf("%+v (%v)", got, err)
		}
		return content.APIs
	}
	compiled := run(t, place{}, "", "schema", "dump", folder)
	published := run(t, w.place, "", "schema", "dump", "auth")
	if left, right := read(compiled), read(published); len(left) != 1 || len(right) != 1 || left[0] != right[0] || left[0].API != "auth" {
		t.Errorf("compiled:\n%+v\npublished:\n%+v", left, right)
	}
	file := filepath.Join(t.TempDir(), "auth.schema")
	if err := os.WriteFile(file, []byte(published.out), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := run(t, place{}, "", "schema", "dump", file); again.out != published.out {
		t.Errorf("%+v", again)
	}
	if all := read(run(t, w.place, "", "schema", "dump", "registry")); len(all) != 3 || all[0].API != "auth" || all[2].API != "test.kinds" {
		t.Errorf("the registry has %d APIs", len(all))
	}
	for _, pair := range [][2]string{{"registry", "registry"}, {"auth", folder}, {file, "auth"}, {folder, "registry"}} {
		if got := run(t, w.place, "", "schema", "diff", pair[0], pair[1]); got != (result{}) {
			t.Errorf("%q: %+v", pair, got)
		}
	}
	if got := run(t, w.place, "", "schema", "diff", "registry", folder, "-o", "plain"); got.code != 1 ||
		!strings.HasPrefix(got.out, "wire,code,names\tAPI removed\ttest.echo\tan API\t\t") || strings.Count(got.out, "\n") != 2 {
		t.Errorf("two APIs gone: %+v", got)
	}
}

// TestSourcesThatCannotBeReadAreErrors uses sources that are not there, or no schemas.
func TestSourcesThatCannotBeReadAreErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	away := silent(t)
	broken := protoFolder(t, replaced(t, "int32 quantity", "int quantity"))
	none := protoFolder(t, `syntax = "proto3";`)
	text := filepath.Join(none, "shop.proto")
	for args, want := range map[string]result{
		"dump":                                  {errs: "onecall: requires at least 1 arg(s), only received 0\n", code: 2},
		"diff registry":                         {errs: "onecall: accepts 2 arg(s), received 1\n", code: 2},
		"dump " + broken:                        {errs: filepath.Join(broken, "shop.proto") + ":22:3: field shop.v1.PlaceOrderRequest.quantity: unknown type int\nonecall: the .proto files have 1 error\n", code: 1},
		"dump " + none:                          {errs: "onecall: " + none + ": the .proto files have no service\n", code: 1},
		"dump " + text:                          {errs: "onecall: " + text + " is no file of schemas: invalid character 's' looking for beginning of value\n", code: 1},
		"dump " + none + "/no":                  {errs: "onecall: stat " + none + "/no: no such file or directory\n", code: 1},
		"dump aut":                              {errs: `onecall: unknown API "aut": it was never served; check its name and that a service of it was started (did you mean auth? the registry knows auth, test.echo, test.kinds)` + "\n", code: 1},
		"dump registry --etcd " + away.endpoint: {code: 1},
	} {
		got := run(t, w.place, "", append([]string{"schema"}, strings.Fields(args)...)...)
		if strings.Contains(args, away.endpoint) {
			if got.code != 1 || got.out != "" || !strings.HasPrefix(got.errs, "onecall: the registry can't be reached: ") {
				t.Errorf("%s: %+v", args, got)
			}
		} else if got != want {
			t.Errorf("%s: %+v, want %+v", args, got, want)
		}
	}
}

// TestADiffComparesEachSchemaOfADeployment has an API with two schemas, as during a deployment.
func TestADiffComparesEachSchemaOfADeployment(t *testing.T) {
	t.Parallel()
	endpoint := newPlace()
	registry := open(t, endpoint)
	serve(t, registry, func(apis grpc.ServiceRegistrar) { testv1.RegisterEchoServiceServer(apis, &streams{}) })
	(&world{registry: registry}).await(t, "test.echo")
	dump := run(t, endpoint, "", "schema", "dump", "test.echo")
	var content map[string][]map[string]any
	if err := json.Unmarshal([]byte(dump.out), &content); err != nil {
		t.Fatal(err)
	}
	other := run(t, place{}, "", "schema", "dump", protoFolder(t, replaced(t, `"shop"`, `"test.echo"`, "package shop.v1", "package onecall.test.v1", "service ShopService", "service EchoService")))
	var second map[string][]map[string]any
	if err := json.Unmarshal([]byte(other.out), &second); err != nil {
		t.Fatal(err)
	}
	content["apis"] = append(content["apis"], second["apis"]...)
	both, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "both.schema")
	if err := os.WriteFile(file, both, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(t, endpoint, "", "schema", "diff", "test.echo", "test.echo"); got != (result{}) {
		t.Errorf("with itself: %+v", got)
	}
	if got := run(t, endpoint, "", "schema", "diff", "test.echo", file, "-o", "plain"); got.code != 1 || !strings.Contains(got.out, "RPC removed\ttest.echo.echo\t") {
		t.Errorf("with itself and another: %+v", got)
	}
}
