package snippets_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/interceptors/atmostonce"
)

// rowsOf returns the cells of all tables of a page, without their headers.
func rowsOf(t *testing.T, page string) [][]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| \n"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if strings.HasPrefix(cells[0], "---") {
			rows = rows[:len(rows)-1] // the line before is the header
			continue
		}
		rows = append(rows, cells)
	}
	return rows
}

// TestThePageOfErrorsHasAllReasons compares the tables with the reasons of refusals and of
// problems with parameters, and the codes and retries with those of docs/at-most-once.md.
func TestThePageOfErrorsHasAllReasons(t *testing.T) {
	t.Parallel()
	want := make(map[string]bool)
	for _, reason := range atmostonce.Reasons() {
		want["`"+string(reason)+"`"] = true
	}
	kinds, err := os.ReadFile("../../internal/protoargs/encode/problem.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range regexp.MustCompile(`Kind = "([A-Z_]+)"`).FindAllSubmatch(kinds, -1) {
		want["`"+string(kind[1])+"`"] = true
	}
	found := make(map[string]bool)
	codes := make(map[string]string)
	for _, row := range rowsOf(t, "../reference/errors.md") {
		if regexp.MustCompile("^`[A-Z_]+`$").MatchString(row[1]) {
			found[row[1]] = true
			codes[row[1]] = row[0]
		}
	}
	if !maps.Equal(found, want) {
		t.Errorf("the page has the reasons %q, the code %q", slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(want)))
	}
	compared := 0
	for _, row := range rowsOf(t, "../at-most-once.md") {
		if code := codes[row[0]]; code != "" && len(row) == 5 {
			compared++
			if code != row[1] {
				t.Errorf("%s has the code %s here, and %s in docs/at-most-once.md", row[0], code, row[1])
			}
		}
	}
	if compared != len(atmostonce.Reasons()) {
		t.Errorf("%d reasons were compared, want %d", compared, len(atmostonce.Reasons()))
	}
}

// TestThePageOfErrorsHasAllTypes looks for the types that calls return.
func TestThePageOfErrorsHasAllTypes(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../reference/errors.md")
	if err != nil {
		t.Fatal(err)
	}
	types := 0
	for _, folder := range []string{"discovery", "interceptors/timeout", "interceptors/validate"} {
		for _, file := range parse(t, filepath.Join("..", "..", folder)) {
			ast.Inspect(file, func(node ast.Node) bool {
				declared, ok := node.(*ast.TypeSpec)
				// InstanceError is of registrations; NoReplyError is of handlers, and reaches callers as an incident.
				if ok && strings.HasSuffix(declared.Name.Name, "Error") && declared.Name.IsExported() &&
					!slices.Contains([]string{"InstanceError", "NoReplyError"}, declared.Name.Name) {
					types++
					if name := file.Name.Name + "." + declared.Name.Name; !strings.Contains(string(page), "`*"+name+"`") {
						t.Errorf("the page does not have *%s", name)
					}
				}
				return true
			})
		}
	}
	const least = 10
	if types < least {
		t.Errorf("%d types were found, want %d at least", types, least)
	}
}

// TestThePageOfOptionsHasAllOptions compares the tables with the functions of package
// framework that return options.
func TestThePageOfOptionsHasAllOptions(t *testing.T) {
	t.Parallel()
	want := make(map[string]bool)
	for _, file := range parse(t, "../../framework") {
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if ok && function.Recv == nil && function.Name.IsExported() && returnsOption(function) {
				want[function.Name.Name] = true
			}
		}
	}
	found := make(map[string]bool)
	for _, row := range rowsOf(t, "../reference/options.md") {
		for _, name := range regexp.MustCompile("`([A-Z]\\w+)\\([^`]*\\)`").FindAllStringSubmatch(row[0], -1) {
			found[name[1]] = true
		}
	}
	if !maps.Equal(found, want) {
		t.Errorf("the page has the options %q, the code %q", slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(want)))
	}
}

// TestThePageOfTheWireHasAllMetadata looks for the keys that the code has as constants.
func TestThePageOfTheWireHasAllMetadata(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../reference/wire.md")
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]bool)
	for _, folder := range []string{"interceptors/atmostonce", "internal/inprocess"} {
		for _, file := range parse(t, filepath.Join("..", "..", folder)) {
			ast.Inspect(file, func(node ast.Node) bool {
				if literal, ok := node.(*ast.BasicLit); ok && regexp.MustCompile(`^"onecall-[a-z]+"$`).MatchString(literal.Value) {
					want["`"+strings.Trim(literal.Value, `"`)+"`"] = true
				}
				return true
			})
		}
	}
	found := make(map[string]bool)
	for _, key := range regexp.MustCompile("(?m)^\\| (`onecall-[a-z]+`) \\|").FindAllSubmatch(page, -1) {
		found[string(key[1])] = true
	}
	if !maps.Equal(found, want) {
		t.Errorf("the page has the keys %q, the code %q", slices.Sorted(maps.Keys(found)), slices.Sorted(maps.Keys(want)))
	}
}

// returnsOption reports whether a function returns an option of a service, a bus or a call.
func returnsOption(function *ast.FuncDecl) bool {
	if function.Type.Results == nil || len(function.Type.Results.List) != 1 {
		return false
	}
	switch result := function.Type.Results.List[0].Type.(type) {
	case *ast.Ident:
		return strings.HasSuffix(result.Name, "Option")
	case *ast.SelectorExpr:
		return result.Sel.Name == "CallOption"
	default:
		return false
	}
}

// parse parses the files of a package without its tests.
func parse(t *testing.T, folder string) []*ast.File {
	t.Helper()
	names, err := fs.Glob(os.DirFS(folder), "*.go")
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(folder, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}
