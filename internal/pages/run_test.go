package pages_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/pages"
)

// runPage runs a page that has this text, in which ' is for the backquote. It waits long for
// each block, but not for the one that begins with impatient.
func runPage(t *testing.T, text, impatient string) error {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "page.md")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "'", "`")), 0o600); err != nil {
		t.Fatal(err)
	}
	page, err := pages.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx := eventually.Context(t)
	runner := &pages.Runner{
		Dir: dir, Environment: os.Environ(), Replace: strings.NewReplacer("PORT", "8080"),
	}
	runner.Begin = func(block pages.Block) {
		if runner.Patience = time.Hour; impatient != "" && strings.HasPrefix(block.Text, impatient) {
			runner.Patience = time.Millisecond
		}
	}
	defer runner.Close()
	return runner.Run(ctx, page)
}

const tour = `
<!-- file sub/hello.txt -->
'''text
hello
'''

<!-- terminal 1 -->
'''sh
cd sub
cat hello.txt
echo "http://127.0.0.1:PORT after 7ms"
echo "a b c b c"
'''

<!-- output -->
'''text
hello
http://127.0.0.1:2379 after 1.5s
a …b c
'''

<!-- part of sub/hello.txt -->
'''text
hello
'''

What follows is shown, and not run.

'''sh
exit 1
'''

<!-- terminal 2 until "begun" -->
'''sh
sh -c "echo begun; exec sleep 1000"
'''

<!-- terminal 1 exit 3 -->
'''sh
basename "$PWD"
(exit 3)
'''

<!-- output -->
'''text
sub
'''

<!-- output of terminal 2 -->
'''text
begun
'''

<!-- terminal 2 interrupt -->
'''sh
seq 5
'''

<!-- output -->
'''text
1
…
5
'''
`

func TestAPageIsRun(t *testing.T) {
	t.Parallel()
	if err := runPage(t, tour, ""); err != nil {
		t.Error(err)
	}
}

// TestADifferenceIsFound changes the page in each way that its reader would notice.
func TestADifferenceIsFound(t *testing.T) {
	t.Parallel()
	for name, change := range map[string][3]string{
		"another file":             {"hello\n'''\n\n<!-- terminal 1", "good bye\n'''\n\n<!-- terminal 1", "the page shows"},
		"another command":          {"cat hello.txt", "cat hello.txt ../page.md", "the page shows"},
		"another line":             {"a …b c\n", "a …b\n", "the page shows"},
		"another folder":           {"cd sub\n", "", "a command has failed"},
		"more output":              {"1\n…\n5\n", "1\n…\n5\n6\n", "the page shows"},
		"less output":              {"1\n…\n5\n", "1\n…\n4\n", "the page shows"},
		"a command that fails":     {"cat hello.txt", "false", "a command has failed"},
		"a command without output": {"echo begun; exec sleep 1000", "exit 0", "have ended, and did not print"},
		"an exit code":             {"exit 3)", "exit 4)", "the exit code is 4, want 3"},
		"an exit code of 0":        {"exit 3 -->", "-->", "a command has failed"},
		"a comment with a typo":    {"terminal 2 interrupt", "terminal 2 interupt", "is not understood"},
		"another part of a file":   {"part of sub/hello.txt -->\n'''text\nhello", "part of sub/hello.txt -->\n'''text\nhell", "does not have the lines"},
		"output without a command": {"<!-- file sub/hello.txt", "<!-- output", "there are no commands"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := strings.Replace(tour, change[0], change[1], 1)
			if changed == tour {
				t.Fatalf("the page does not have %q", change[0])
			}
			if err := runPage(t, changed, ""); err == nil || !strings.Contains(err.Error(), change[2]) {
				t.Errorf("Run = %v, want %q", err, change[2])
			}
		})
	}
}

// TestACommandThatDoesNotEndIsFound leaves the Ctrl-C out of a page.
func TestACommandThatDoesNotEndIsFound(t *testing.T) {
	t.Parallel()
	err := runPage(t, strings.Replace(tour, "terminal 2 interrupt", "terminal 2", 1), "seq 5")
	if err == nil || !strings.Contains(err.Error(), "the commands before these have not ended") {
		t.Errorf("Run = %v", err)
	}
}
