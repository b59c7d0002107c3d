package framework_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/onecall-dev/onecall/discovery/memory"
	authv1 "github.com/onecall-dev/onecall/examples/auth/proto/auth/v1"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/contract"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestTheSpelledOutCallOfEveryRPCPassesItsRules reads the call in an error's text as a
// person would, sets the values that the shown rules require, and makes the call.
func TestTheSpelledOutCallOfEveryRPCPassesItsRules(t *testing.T) {
	t.Parallel()
	registry := memory.New()
	serveAny(t, registry, func(apis grpc.ServiceRegistrar) {
		testv1.RegisterEchoServiceServer(apis, testv1.UnimplementedEchoServiceServer{})
		testv1.RegisterPlainServiceServer(apis, testv1.UnimplementedPlainServiceServer{})
		testv1.RegisterKindsServiceServer(apis, testv1.UnimplementedKindsServiceServer{})
		testv1.RegisterRulesServiceServer(apis, testv1.UnimplementedRulesServiceServer{})
		authv1.RegisterAuthServiceServer(apis, authv1.UnimplementedAuthServiceServer{})
	})
	bus := newBus(t, registry)
	ready(t, bus, "test.echo", "onecall.test.v1.PlainService", "test.kinds", "test.rules", "auth")
	for name, request := range unaryRPCs(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := bus.Call(t.Context(), name, "a value without a name")
			spelled := readUsage(t, request, status.Convert(err).Message())
			if name == "test.rules.lookup" { // as its comment says: index has the secret
				spelled.args["index"] = spelled.optional["index"]
			}
			call := func(title string, args framework.Args) {
				t.Run(title, func(t *testing.T) {
					t.Parallel()
					_, err := bus.Call(t.Context(), name, args)
					if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "not implemented") { // by the handler
						t.Errorf("%v\nof the call %v\nspelled out in %s", err, args, spelled.text)
					}
				})
			}
			call("with what it must have", spelled.args)
			for parameter, value := range spelled.optional {
				args := maps.Clone(spelled.args)
				if oneof := request.Fields().ByName(protoreflect.Name(parameter)).ContainingOneof(); oneof != nil {
					for i := range oneof.Fields().Len() {
						delete(args, string(oneof.Fields().Get(i).Name()))
					}
				}
				args[parameter] = value
				call("with "+parameter, args)
			}
		})
	}
}

// unaryRPCs returns the requests of all unary RPCs of the tests and the example, by
// their bus names.
func unaryRPCs(t *testing.T) map[string]protoreflect.MessageDescriptor {
	t.Helper()
	requests := make(map[string]protoreflect.MessageDescriptor)
	for _, file := range []protoreflect.FileDescriptor{
		testv1.File_onecall_test_v1_echo_proto, testv1.File_onecall_test_v1_kinds_proto, testv1.File_onecall_test_v1_rules_proto, authv1.File_auth_v1_auth_proto,
	} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			api, err := contract.FromDescriptor(service)
			if err != nil {
				t.Fatal(err)
			}
			for j, rpc := range api.RPCs {
				if !rpc.Stream {
					requests[rpc.Name] = service.Methods().Get(j).Input()
				}
			}
		}
	}
	if len(requests) < 15 {
		t.Fatalf("only %d RPCs were found", len(requests))
	}
	return requests
}

// usage is the parsed call of an error's text.
type usage struct {
	text           string
	args, optional framework.Args
}

// readUsage reads the call at the end of an error.
func readUsage(t *testing.T, request protoreflect.MessageDescriptor, text string) usage {
	t.Helper()
	_, text, _ = strings.Cut(text, " Write ")
	call, rest, _ := strings.Cut(text, " // ")
	_, args, ok := strings.Cut(strings.TrimSuffix(call, ")"), ", framework.Args")
	if !ok || !strings.HasSuffix(call, ")") {
		t.Fatalf("no call is spelled out: %s", text)
	}
	read := usage{text: text, args: readArgs(t, request, args), optional: framework.Args{}}
	if optional, ok := strings.CutPrefix(rest, "optional: "); ok {
		optional, _, _ = strings.Cut(optional, " // rules: ")
		optional = strings.NewReplacer(`" or "`, `", "`, ` or "`, `, "`, `instead "`, `"`).Replace(strings.TrimSuffix(optional, "…"))
		read.optional = readArgs(t, request, "{"+optional+"}")
	}
	return read
}

// readArgs reads Go's spelling of parameters of a message.
func readArgs(t *testing.T, of protoreflect.MessageDescriptor, text string) framework.Args {
	t.Helper()
	expr, err := parser.ParseExpr("framework.Args" + strings.ReplaceAll(text, "{…}", "{ellipsis}"))
	if err != nil {
		t.Fatalf("the spelled-out parameters are not Go: %v\n%s", err, text)
	}
	args, ok := reader{t}.fields(of, expr).(framework.Args)
	if !ok {
		t.Fatalf("%s are no parameters", text)
	}
	return args
}

// reader turns Go's spelling of values into values.
type reader struct{ *testing.T }

// fields reads a message. If its fields are not written, it is empty.
func (r reader) fields(of protoreflect.MessageDescriptor, expr ast.Expr) any {
	literal, ok := expr.(*ast.CompositeLit)
	if !ok {
		return r.value(nil, expr)
	}
	args := framework.Args{}
	for _, element := range literal.Elts {
		pair, ok := element.(*ast.KeyValueExpr)
		if !ok { // {…}
			found, err := protoregistry.GlobalTypes.FindMessageByName(of.FullName())
			if err != nil {
				r.Fatal(err)
			}
			return found.New().Interface()
		}
		name, _ := r.value(nil, pair.Key).(string)
		args[name] = r.field(of.Fields().ByName(protoreflect.Name(name)), pair.Value)
	}
	return args
}

func (r reader) field(field protoreflect.FieldDescriptor, expr ast.Expr) any {
	literal, ok := expr.(*ast.CompositeLit)
	switch {
	case field == nil:
		r.Fatalf("%v is spelled out, and is no field", expr)
		return nil
	case field.IsMap() && ok:
		pair, _ := literal.Elts[0].(*ast.KeyValueExpr)
		return map[any]any{r.value(field.MapKey(), pair.Key): r.value(field.MapValue(), pair.Value)}
	case field.IsList() && ok:
		return []any{r.value(field, literal.Elts[0])}
	default:
		return r.value(field, expr)
	}
}

func (r reader) value(field protoreflect.FieldDescriptor, expr ast.Expr) any {
	switch expr := expr.(type) {
	case *ast.BasicLit:
		return r.literal(expr)
	case *ast.CompositeLit:
		switch r.source(expr.Type) {
		case "framework.Args":
			return r.fields(field.Message(), expr)
		case "[]byte":
			return []byte("…")
		default:
			r.Fatalf("no value is known of %s", r.source(expr.Type))
		}
	case *ast.Ident, *ast.CallExpr, *ast.SelectorExpr:
		values := map[string]any{"true": true, "false": false, "message": &testv1.Drawer{}, "time.Now()": time.Now(), "time.Minute": time.Minute}
		if value, ok := values[r.source(expr)]; ok {
			return value
		}
		r.Fatalf("no value is known of %s", r.source(expr))
	default:
		r.Fatalf("no value is known of a %T", expr)
	}
	return nil
}

// characters matches a text that says how long a string must be.
var characters = regexp.MustCompile(`^\((\d+)(?: to \d+)? characters\)$`)

func (r reader) literal(literal *ast.BasicLit) any {
	switch literal.Kind {
	case token.STRING:
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			r.Fatal(err)
		}
		if found := characters.FindStringSubmatch(text); found != nil {
			length, _ := strconv.Atoi(found[1])
			return strings.Repeat("x", length)
		}
		return text
	case token.INT:
		number, err := strconv.Atoi(literal.Value)
		if err != nil {
			r.Fatal(err)
		}
		return number
	default:
		number, err := strconv.ParseFloat(literal.Value, 64)
		if err != nil {
			r.Fatal(err)
		}
		return number
	}
}

// source writes an expression as Go does.
func (r reader) source(expr ast.Expr) string {
	switch expr := expr.(type) {
	case *ast.Ident:
		return expr.Name
	case *ast.SelectorExpr:
		return r.source(expr.X) + "." + expr.Sel.Name
	case *ast.CallExpr:
		return r.source(expr.Fun) + "()"
	case *ast.ArrayType:
		return "[]" + r.source(expr.Elt)
	default:
		return fmt.Sprintf("%T", expr)
	}
}
