package archtest_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestContributingNamesWhatExists checks the paths and the targets of make that
// docs/contributing.md names, so that it does not lead a reader astray.
func TestContributingNamesWhatExists(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "contributing.md"))
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(?:make ([a-z-]+)[^`]*|((?:framework|discovery|interceptors|internal|examples|bench|proto)[a-z./_-]*))`").FindAllSubmatch(page, -1)
	for _, name := range named {
		if target := string(name[1]); target != "" && !strings.Contains(string(makefile), "\n"+target+":") {
			t.Errorf("the Makefile has no target %s", target)
		}
		if _, err := os.Stat(filepath.Join(root, string(name[2]))); err != nil {
			t.Error(err)
		}
	}
	const least = 30
	if len(named) < least {
		t.Errorf("%d paths and targets were found, want %d at least", len(named), least)
	}
}

// TestWhatHappensWhenNamesTestsThatExist checks that each row of
// docs/what-happens-when.md names tests or targets of make, and that they exist.
func TestWhatHappensWhenNamesTestsThatExist(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "what-happens-when.md"))
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	tests := make(map[string]bool)
	err = filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := os.ReadFile(path)
		for _, found := range regexp.MustCompile(`(?m)^func (Test\w+)\(`).FindAllSubmatch(file, -1) {
			tests[string(found[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, "|")
		if len(cells) < 2 || strings.HasPrefix(line, "| when") || strings.HasPrefix(line, "| ---") {
			continue
		}
		rows++
		proofs := regexp.MustCompile("`(make )?([A-Za-z-]+)`").FindAllStringSubmatch(cells[len(cells)-2], -1)
		for _, proof := range proofs {
			if target := proof[2]; proof[1] != "" && !strings.Contains(string(makefile), "\n"+target+":") {
				t.Errorf("the Makefile has no target %s", target)
			} else if proof[1] == "" && strings.HasPrefix(target, "Test") && !tests[target] {
				t.Errorf("there is no test %s", target)
			}
		}
		if len(proofs) == 0 {
			t.Errorf("no test is named in the row\n%s", line)
		}
	}
	const least = 30
	if rows < least {
		t.Errorf("%d rows were found, want %d at least", rows, least)
	}
}
