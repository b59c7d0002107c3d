// Package pages reads the Markdown pages of the project, so that tests can compare them with
// the code, and runs the commands that they show.
//
// A comment in the line before a block says what runs the block:
//
//	<!-- run by TestName -->             a test that reads the page or does the same
//	<!-- run by make target -->          a target of the Makefile
//	<!-- terminal 1 -->                  [Runner], in a shell that the number names
//	<!-- terminal 1 until "text" -->     the same; the command goes on after this output
//	<!-- terminal 1 exit 12 -->          the same; the exit code is not 0
//	<!-- terminal 1 interrupt -->        the same, after Ctrl-C there; the program that runs must
//	                                     have printed something, or it may not have begun
//	<!-- output of terminal 1 -->        this block is what the block before it printed
//	<!-- file name -->                   [Runner] writes this block to the file
//	<!-- part of name -->                the file has these lines
package pages

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// Page is a page of the documents.
type Page struct {
	// Path is that of its file.
	Path string
	// Blocks are those between fences.
	Blocks []Block
	// Links are the targets of its links and pictures, as they are written.
	Links []Link
	// Anchors are the names of its headings, by which links find them.
	Anchors map[string]bool
}

// Block is the text between two fences.
type Block struct {
	// Language is the word after the first fence, such as go or sh.
	Language string
	// Text has a line end after each line.
	Text string
	// Comment is the HTML comment in the line before the fence, without its marks.
	Comment string
	// Section is the heading of the second level that the block is below.
	Section string
	// Line is the number of the line of the first fence.
	Line int
}

// Link is a link or a picture.
type Link struct {
	Target string
	Line   int
}

var (
	// linkPattern finds the target of [text](target) and of src="target" and srcset="target".
	linkPattern = regexp.MustCompile(`\]\(([^()\s]+)\)|\b(?:src|srcset|href)="([^"]+)"`)
	codePattern = regexp.MustCompile("`[^`]*`")
	dropPattern = regexp.MustCompile(`[^\p{L}\p{N}\p{M}\p{Pc} -]`)
	// namePattern finds the text of a link in a heading.
	namePattern = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// Read reads a page.
func Read(path string) (Page, error) {
	text, err := os.ReadFile(path) //nolint:gosec // a page of the repository
	if err != nil {
		return Page{}, err
	}
	return parse(path, string(text)), nil
}

// Under returns the paths of all pages below a folder, without those in folders whose names
// begin with a dot.
func Under(folder string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != folder && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case strings.HasSuffix(path, ".md"):
			found = append(found, path)
		}
		return nil
	})
	return found, err
}

// parse reads the text of a page.
func parse(path, text string) Page {
	page := Page{Path: path, Anchors: make(map[string]bool)}
	var block *Block
	var paragraph strings.Builder // a link can be on two lines
	comment, section, number, begin := "", "", 0, 0
	flush := func() {
		page.Links = append(page.Links, links(paragraph.String(), begin)...)
		paragraph.Reset()
	}
	for line := range strings.Lines(text) {
		number++
		bare := strings.TrimSpace(line)
		switch {
		case block != nil && bare == "```":
			page.Blocks = append(page.Blocks, *block)
			block = nil
		case block != nil:
			block.Text += line
		case strings.HasPrefix(bare, "```"):
			flush()
			block = &Block{Language: strings.TrimPrefix(bare, "```"), Comment: comment, Section: section, Line: number}
		case strings.HasPrefix(line, "#"):
			flush()
			if heading, found := strings.CutPrefix(line, "## "); found {
				section = strings.TrimSpace(heading)
			}
			page.anchor(strings.TrimSpace(strings.TrimLeft(line, "#")))
			page.Links = append(page.Links, links(line, number)...)
		default:
			if paragraph.Len() == 0 {
				begin = number
			}
			paragraph.WriteString(line)
			if bare == "" {
				flush()
			}
		}
		inside, isComment := strings.CutPrefix(bare, "<!-- ")
		if comment = ""; isComment {
			comment = strings.TrimSuffix(inside, " -->")
		}
	}
	flush()
	return page
}

// anchor adds the name that GitHub derives from a heading: lower-case, without punctuation,
// with hyphens for spaces, and with a number if the page has the same name already.
func (p *Page) anchor(heading string) {
	name := namePattern.ReplaceAllString(heading, "$1")
	name = dropPattern.ReplaceAllString(strings.ToLower(name), "")
	name = strings.ReplaceAll(name, " ", "-")
	unique := name
	for i := 1; p.Anchors[unique]; i++ {
		unique = fmt.Sprintf("%s-%d", name, i)
	}
	p.Anchors[unique] = true
}

// links returns the links in text that begins at a line. Code has none.
func links(text string, begin int) []Link {
	text = codePattern.ReplaceAllStringFunc(text, func(code string) string { return strings.Repeat("x", len(code)) })
	var found []Link
	for _, match := range linkPattern.FindAllStringSubmatchIndex(text, -1) {
		from, to := match[2], match[3]
		if from < 0 {
			from, to = match[4], match[5]
		}
		found = append(found, Link{Target: text[from:to], Line: begin + strings.Count(text[:from], "\n")})
	}
	return found
}
