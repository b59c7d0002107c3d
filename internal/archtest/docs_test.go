package archtest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEverySnippetOfTheDocumentsIsCompiled holds each block of Go in README.md and
// docs to the module's files: one of them has the same lines, which are compiled and
// most often run by a test.
func TestEverySnippetOfTheDocumentsIsCompiled(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	var code strings.Builder
	var pages []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.HasPrefix(entry.Name(), ".") && entry.Name() != "..":
			return fs.SkipDir
		case strings.HasSuffix(path, ".md"):
			pages = append(pages, path)
		case strings.HasSuffix(path, ".go"):
			file, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			code.WriteString(flush(string(file)))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	snippets := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(string(text), "```go\n")[1:] {
			snippet, _, _ := strings.Cut(block, "```")
			if !strings.Contains(code.String(), "\n"+flush(snippet)) {
				t.Errorf("%s shows what no file of the module holds:\n%s", page, snippet)
			}
			snippets++
		}
	}
	const least = 6
	if snippets < least {
		t.Errorf("%d snippets were found, want %d at least: are they still marked as Go?", snippets, least)
	}
}

// flush returns lines without what they are indented by.
func flush(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.TrimLeft(line, "\t "))
	}
	return out.String()
}
