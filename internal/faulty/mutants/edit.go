package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// edit replaces Go code in one declaration of a package. It is found by the
// declaration's name and by its tokens: files, comments and layout do not matter.
type edit struct {
	// pkg is the package's folder, as the go command takes it from the module's root.
	pkg string
	// in names the declaration: "prepare", "Record.bind", "callerSession",
	// "unsentReissues".
	in string
	// old is the code to replace, which the declaration has exactly once.
	old string
	// new is the code that replaces it.
	new string
	// imports are packages that new needs, if its file does not import them.
	imports []string
	// declares are declarations that new needs.
	declares string
}

// staleError is the error of a mutant whose code does not exist, or exists more than
// once.
type staleError struct {
	edit    edit
	problem string
}

// Error implements error.
func (e *staleError) Error() string {
	return fmt.Sprintf("%s: %s: %s: write the mutant anew", e.edit.pkg, e.edit.in, e.problem)
}

// sources reads a module's Go files, and keeps the text of those that edits changed,
// by path.
type sources struct {
	root    string
	changed map[string]string
}

// declaration is one of a file.
type declaration struct {
	path     string
	text     string // of the file
	from, to int    // where the declaration is in text
	file     *ast.File
}

// apply makes one edit.
func (s *sources) apply(e edit) error {
	found, err := s.find(e)
	if err != nil {
		return err
	}
	from, to, err := locate(found.text[found.from:found.to], e)
	if err != nil {
		return err
	}
	text := found.text[:found.from+from] + e.new + found.text[found.from+to:]
	if e.declares != "" {
		text += "\n" + e.declares + "\n"
	}
	for _, wanted := range e.imports {
		imported := func(spec *ast.ImportSpec) bool { return spec.Path.Value == strconv.Quote(wanted) }
		if !slices.ContainsFunc(found.file.Imports, imported) {
			after := found.file.Name.End() - found.file.FileStart
			text = text[:after] + "\n\nimport " + strconv.Quote(wanted) + text[after:]
		}
	}
	if _, err := parser.ParseFile(token.NewFileSet(), found.path, text, parser.SkipObjectResolution); err != nil {
		return &staleError{e, fmt.Sprintf("%q is no Go code there: %v", e.new, err)}
	}
	s.changed[found.path] = text
	return nil
}

// find returns the declaration that an edit is in.
func (s *sources) find(e edit) (declaration, error) {
	paths, err := filepath.Glob(filepath.Join(s.root, filepath.FromSlash(e.pkg), "*.go"))
	if err != nil {
		return declaration{}, err
	}
	var found []declaration
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		text, changed := s.changed[path]
		if !changed {
			data, err := os.ReadFile(path) //nolint:gosec // a file of the module
			if err != nil {
				return declaration{}, err
			}
			text = string(data)
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, text, parser.SkipObjectResolution)
		if err != nil {
			return declaration{}, err
		}
		for name, node := range declared(file) {
			if name == e.in {
				found = append(found, declaration{path, text, set.Position(node.Pos()).Offset, set.Position(node.End()).Offset, file})
			}
		}
	}
	if len(found) != 1 {
		return declaration{}, &staleError{e, fmt.Sprintf("there are %d such declarations, not one", len(found))}
	}
	return found[0], nil
}

// declared returns the declarations of a file by name. A method's name has its
// type in front.
func declared(file *ast.File) map[string]ast.Node {
	names := make(map[string]ast.Node)
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			names[receiver(decl)+decl.Name.Name] = decl
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names[spec.Name.Name] = spec
				case *ast.ValueSpec:
					names[spec.Names[0].Name] = spec
				}
			}
		}
	}
	return names
}

// receiver returns the type of a method with a dot, "" for a function.
func receiver(decl *ast.FuncDecl) string {
	if decl.Recv == nil {
		return ""
	}
	of := decl.Recv.List[0].Type
	if pointer, ok := of.(*ast.StarExpr); ok {
		of = pointer.X
	}
	if generic, ok := of.(*ast.IndexExpr); ok {
		of = generic.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}

// lexeme is a token and where it is.
type lexeme struct {
	token    token.Token
	literal  string
	from, to int
}

// locate returns where the code of an edit is in the text of its declaration.
func locate(text string, e edit) (from, to int, err error) {
	all, wanted := lexemes(text), lexemes(e.old)
	if len(wanted) == 0 {
		return 0, 0, &staleError{e, "the code to replace is empty"}
	}
	places := 0
	for i := range len(all) - len(wanted) + 1 {
		if slices.EqualFunc(all[i:i+len(wanted)], wanted, func(a, b lexeme) bool { return a.token == b.token && a.literal == b.literal }) {
			from, to = all[i].from, all[i+len(wanted)-1].to
			places++
		}
	}
	if places != 1 {
		return 0, 0, &staleError{e, fmt.Sprintf("it has the code %q %d times, not once", e.old, places)}
	}
	return from, to, nil
}

// lexemes are the tokens of Go code, without comments and without the semicolons
// that only the ends of lines make.
func lexemes(code string) []lexeme {
	var lex scanner.Scanner
	set := token.NewFileSet()
	file := set.AddFile("", set.Base(), len(code))
	lex.Init(file, []byte(code), func(token.Position, string) {}, 0)
	var all []lexeme
	for {
		pos, tok, literal := lex.Scan()
		if tok == token.EOF {
			return all
		}
		if tok == token.SEMICOLON && literal != ";" {
			continue
		}
		text := literal
		if text == "" || tok.IsOperator() {
			text = tok.String()
		}
		from := file.Offset(pos)
		all = append(all, lexeme{tok, text, from, from + len(text)})
	}
}
