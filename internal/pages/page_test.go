package pages_test

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/internal/pages"
)

// root is the folder of the module.
var root = filepath.Join("..", "..")

// all returns all pages of the repository.
func all(t *testing.T) map[string]pages.Page {
	t.Helper()
	paths, err := pages.Under(root)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]pages.Page)
	for _, path := range paths {
		if found[path], err = pages.Read(path); err != nil {
			t.Fatal(err)
		}
	}
	const least = 20
	if len(found) < least {
		t.Fatalf("%d pages were found, want %d at least", len(found), least)
	}
	return found
}

// TestEveryLinkLeadsSomewhere checks the relative links of all pages: the file exists, and
// has the heading. Links to other sites are not followed.
func TestEveryLinkLeadsSomewhere(t *testing.T) {
	t.Parallel()
	found, checked := all(t), 0
	for path, page := range found {
		for _, link := range page.Links {
			if strings.Contains(link.Target, "://") {
				continue
			}
			checked++
			file, anchor, hasAnchor := strings.Cut(link.Target, "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s:%d: the link %s leads to no file", path, link.Line, link.Target)
				continue
			}
			if other, isPage := found[target]; hasAnchor && (!isPage || !other.Anchors[anchor]) {
				t.Errorf("%s:%d: the link %s leads to no heading", path, link.Line, link.Target)
			}
		}
	}
	const least = 150
	if checked < least {
		t.Errorf("%d links were found, want %d at least", checked, least)
	}
}

// TestEverySnippetIsCompiled compares each block of Go and of protobuf in all pages with the
// files of the repository: one of them has the same lines, which are compiled and most often
// run by a test. A block that is a file, or a part of one, is compiled where the page is run.
func TestEverySnippetIsCompiled(t *testing.T) {
	t.Parallel()
	code := map[string]string{"go": sources(t, ".go"), "proto": sources(t, ".proto")}
	snippets := 0
	for path, page := range all(t) {
		for _, block := range page.Blocks {
			source, isCode := code[block.Language]
			if !isCode || strings.HasPrefix(block.Comment, "file ") || strings.HasPrefix(block.Comment, "part of ") {
				continue
			}
			snippets++
			if !strings.Contains(source, "\n"+flush(block.Text)) {
				t.Errorf("%s:%d: no .%s file of the repository has these lines:\n%s", path, block.Line, block.Language, block.Text)
			}
		}
	}
	const least = 25
	if snippets < least {
		t.Errorf("%d snippets were found, want %d at least: do they have a language?", snippets, least)
	}
}

// TestEveryCommandIsRun checks that each block of commands, and of what programs print, says
// what runs it, and that this exists.
func TestEveryCommandIsRun(t *testing.T) {
	t.Parallel()
	makefile := contentOf(t, filepath.Join(root, "Makefile"))
	tests := sources(t, "_test.go")
	runBy := regexp.MustCompile(`^run by (?:make ([a-z-]+)|(Test\w+))$`)
	ran := make(map[string]bool)
	if list := regexp.MustCompile(`(?m)^PAGES := (.*)$`).FindStringSubmatch(makefile); list != nil {
		for name := range strings.FieldsSeq(list[1]) {
			ran[filepath.Join(root, name)] = true
		}
	}
	for path, page := range all(t) {
		for _, block := range page.Blocks {
			isGenerated := path == filepath.Join(root, "docs", "command.md") && block.Section == "Commands" // of help --llm
			if block.Language != "sh" && block.Language != "text" || isGenerated {
				continue
			}
			runs := strings.HasPrefix(block.Comment, "terminal ") || strings.HasPrefix(block.Comment, "output")
			proof := runBy.FindStringSubmatch(block.Comment)
			switch {
			case runs && ran[path]:
			case proof == nil:
				t.Errorf("%s:%d: the comment %q does not say what runs this:\n%s", path, block.Line, block.Comment, block.Text)
			case proof[1] != "" && !strings.Contains(makefile, "\n"+proof[1]+":"):
				t.Errorf("%s:%d: the Makefile has no target %s", path, block.Line, proof[1])
			case proof[2] != "" && !strings.Contains(tests, "\nfunc "+proof[2]+"("):
				t.Errorf("%s:%d: there is no test %s", path, block.Line, proof[2])
			}
		}
	}
}

// TestEveryTargetOfMakeExists looks for the targets that the text of pages names: in the
// Makefile of the repository, or in that of a new project.
func TestEveryTargetOfMakeExists(t *testing.T) {
	t.Parallel()
	makefiles := contentOf(t, filepath.Join(root, "Makefile")) +
		contentOf(t, filepath.Join(root, "cmd", "onecall", "internal", "scaffold", "project", "Makefile.tmpl"))
	named := 0
	for path := range all(t) {
		for _, target := range regexp.MustCompile("`make ([a-z-]+)").FindAllStringSubmatch(contentOf(t, path), -1) {
			named++
			if !strings.Contains(makefiles, "\n"+target[1]+":") {
				t.Errorf("%s names make %s, which no Makefile has", path, target[1])
			}
		}
	}
	const least = 20
	if named < least {
		t.Errorf("%d targets were found, want %d at least", named, least)
	}
}

// TestEveryPictureCanBeReadAloud checks that drawings have a title and a description, and
// colors for dark mode, and that links to pictures have a text.
func TestEveryPictureCanBeReadAloud(t *testing.T) {
	t.Parallel()
	drawings, err := filepath.Glob(filepath.Join(root, "docs", "pictures", "*.svg"))
	if err != nil || len(drawings) == 0 {
		t.Fatalf("there are no drawings (%v)", err)
	}
	for _, path := range drawings {
		text := contentOf(t, path)
		if err := xml.Unmarshal([]byte(text), new(struct{})); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		for _, part := range []string{"<title", "<desc", `role="img"`, "prefers-color-scheme: dark"} {
			if !strings.Contains(text, part) {
				t.Errorf("%s has no %s", path, part)
			}
		}
	}
	for path := range all(t) {
		if text := contentOf(t, path); strings.Contains(text, "![](") {
			t.Errorf("%s has a picture without a text", path)
		}
	}
}

// TestEveryBlockOfJSONIsValid parses the blocks of JSON.
func TestEveryBlockOfJSONIsValid(t *testing.T) {
	t.Parallel()
	for path, page := range all(t) {
		for _, block := range page.Blocks {
			if block.Language == "json" && !json.Valid([]byte(block.Text)) {
				t.Errorf("%s:%d: this is no JSON:\n%s", path, block.Line, block.Text)
			}
		}
	}
}

// TestTheIndexListsEveryPage checks that a reader finds each page of docs from its index.
func TestTheIndexListsEveryPage(t *testing.T) {
	t.Parallel()
	found := all(t)
	docs := filepath.Join(root, "docs")
	listed := make(map[string]bool)
	for _, link := range found[filepath.Join(docs, "README.md")].Links {
		file, _, _ := strings.Cut(link.Target, "#")
		listed[filepath.Join(docs, file)] = true
	}
	for path := range found {
		if strings.HasPrefix(path, docs) && !strings.HasPrefix(path, filepath.Join(docs, "adr", "0")) &&
			path != filepath.Join(docs, "README.md") && !listed[path] {
			t.Errorf("the index of docs does not list %s", path)
		}
	}
}

// contentOf returns the content of a file.
func contentOf(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// sources returns the lines of all files whose names end with an ending, without what they
// are indented by.
func sources(t *testing.T, ending string) string {
	t.Helper()
	var code strings.Builder
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // a file of another test
			return nil
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != "..":
			return fs.SkipDir
		case !strings.HasSuffix(path, ending):
			return nil
		}
		file, err := os.ReadFile(path)
		code.WriteString("\n" + flush(string(file)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return code.String()
}

// flush returns lines without what they are indented by.
func flush(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.TrimLeft(line, "\t "))
	}
	return out.String()
}
