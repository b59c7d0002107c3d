package framework_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// step is a function of a walk in docs/design.md.
type step struct{ function, file string }

// walk returns the steps that a section of docs/design.md lists.
func walk(t *testing.T, section string) []step {
	t.Helper()
	page, err := os.ReadFile("../docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(page), "\n### "+section+"\n")
	if !found {
		t.Fatalf("the page has no section %q", section)
	}
	list, _, _ := strings.Cut(after, "\n#")
	var steps []step
	for _, match := range regexp.MustCompile("(?m)^\\d+\\. `([^`]+)` in `([^`]+)`").FindAllStringSubmatch(list, -1) {
		steps = append(steps, step{match[1], match[2]})
	}
	return steps
}

// lines returns the first and the last line of a function in its file, 0 if the file
// does not declare it. The function is "function", "package.Function" or
// "type.method".
func (s step) lines(t *testing.T) (first, last int) {
	t.Helper()
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, filepath.Join("..", s.file), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, declaration := range parsed.Decls {
		function, ok := declaration.(*ast.FuncDecl)
		if !ok {
			continue
		}
		name, qualifier := function.Name.Name, parsed.Name.Name
		if function.Recv != nil {
			qualifier = receiver(function.Recv.List[0].Type)
		}
		if s.function == qualifier+"."+name || function.Recv == nil && s.function == name {
			return files.Position(function.Pos()).Line, files.Position(function.End()).Line
		}
	}
	return 0, 0
}

// receiver returns the name of a receiver's type.
func receiver(expr ast.Expr) string {
	if star, ok := expr.(*ast.StarExpr); ok {
		expr = star.X
	}
	name, _ := expr.(*ast.Ident)
	return name.Name
}

// TestTheWalkOfTheDocumentsIsThatOfTheCode checks that the functions of the design page
// exist, and that there are not too many of them.
func TestTheWalkOfTheDocumentsIsThatOfTheCode(t *testing.T) {
	t.Parallel()
	for section, most := range map[string]struct{ functions, files int }{
		"The walk at the caller": {15, 6},
		"The walk at the server": {18, 9},
	} {
		t.Run(section, func(t *testing.T) {
			t.Parallel()
			steps := walk(t, section)
			files := make(map[string]bool)
			for _, s := range steps {
				files[s.file] = true
				if first, _ := s.lines(t); first == 0 {
					t.Errorf("%s declares no %s", s.file, s.function)
				}
			}
			if len(steps) == 0 || len(steps) > most.functions || len(files) > most.files {
				t.Errorf("the walk has %d functions in %d files, may have %d in %d", len(steps), len(files), most.functions, most.files)
			}
		})
	}
}

// ours returns the frames of this module that are on the stack, the outermost first,
// without tests and generated code.
func ours() (found []runtime.Frame) {
	const most = 64
	callers := make([]uintptr, most)
	frames := runtime.CallersFrames(callers[:runtime.Callers(0, callers)])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		if strings.HasPrefix(frame.Function, "github.com/onecall-dev/onecall/") && !strings.Contains(frame.Function, "/testproto/") && !strings.HasSuffix(frame.File, "_test.go") {
			found = append(found, frame)
		}
	}
	slices.Reverse(found)
	return found
}

// TestTheWalkAtTheServerIsOnTheStackOfAHandler compares the list with the functions
// that wait for a handler. Those that returned before it are not on the stack.
func TestTheWalkAtTheServerIsOnTheStackOfAHandler(t *testing.T) {
	overNetwork(t)
	t.Parallel()
	stack := make(chan []runtime.Frame, 1)
	registry := memory.New()
	serve(t, registry, &echo{echo: func(_ context.Context, text string) (string, error) { stack <- ours(); return text, nil }})
	bus := newBus(t, registry)
	ready(t, bus, "test.echo")
	if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Fatal(err)
	}
	followWalk(t, "The walk at the server", <-stack)
}

// TestTheWalkAtTheCallerIsOnTheStackOfAnAttempt compares the list with the functions
// that wait for grpc-go to send. The pick has returned then.
func TestTheWalkAtTheCallerIsOnTheStackOfAnAttempt(t *testing.T) {
	overNetwork(t)
	t.Parallel()
	stack := make(chan []runtime.Frame, 1)
	registry := memory.New()
	serve(t, registry, &echo{})
	bus := newBus(t, registry, framework.DialOptions(grpc.WithStatsHandler(onHeaderSent(func(method string) {
		if strings.HasPrefix(method, "/onecall.test.") {
			stack <- ours()
		}
	}))))
	ready(t, bus, "test.echo")
	if _, err := testv1.NewEchoServiceClient(bus).Echo(t.Context(), &testv1.EchoRequest{}); err != nil {
		t.Fatal(err)
	}
	followWalk(t, "The walk at the caller", <-stack)
}

// onHeaderSent is called when the header of a call was sent, with its path.
type onHeaderSent func(method string)

func (onHeaderSent) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (onHeaderSent) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (onHeaderSent) HandleConn(context.Context, stats.ConnStats) {}

func (f onHeaderSent) HandleRPC(_ context.Context, event stats.RPCStats) {
	if header, ok := event.(*stats.OutHeader); ok {
		f(header.FullMethod)
	}
}

// followWalk checks that a walk has the frames of a stack, in their order.
func followWalk(t *testing.T, section string, frames []runtime.Frame) {
	t.Helper()
	steps := walk(t, section)
	at := 0
	for _, frame := range frames {
		index := slices.IndexFunc(steps, func(s step) bool {
			first, last := s.lines(t)
			return strings.HasSuffix(frame.File, s.file) && first <= frame.Line && frame.Line <= last
		})
		switch {
		case index < 0:
			t.Errorf("%s (%s:%d) is on the stack, and the walk does not have it", frame.Function, frame.File, frame.Line)
		case index < at:
			t.Errorf("%s runs inside of %s, and the walk has it before", steps[index].function, steps[at].function)
		}
		at = max(at, index)
	}
	if at == 0 {
		t.Error("no function of the walk is on the stack")
	}
}
