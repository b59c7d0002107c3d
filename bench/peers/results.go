package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/onecall-dev/onecall/bench/internal/measure"
)

// results is what was measured.
type results struct {
	machine        string
	turns          int
	peers          []peer
	sizes, callers []int
	cells          map[place][]cell // by peer
}

// place is a size of a call, and a number of callers.
type place struct{ size, callers int }

// cell is a measured peer.
type cell struct {
	// cpu is the CPU time of a call at both sides in nanoseconds, and ratio for 1 of the
	// first peer.
	cpu, ratio float64
	// caller and server are allocations.
	caller, server float64
}

// add adds the figures of all peers.
func (r *results) add(size, callers int, ways []*measure.Way) {
	if r.cells == nil {
		r.cells = make(map[place][]cell)
	}
	var cells []cell
	for _, way := range ways {
		cells = append(cells, cell{
			cpu: way.Median(measure.Turn.CPU), ratio: way.Ratio(ways[0], measure.Turn.CPU),
			caller: way.Median(func(t measure.Turn) float64 { return t.CallerMallocs }),
			server: way.Median(func(t measure.Turn) float64 { return t.ServerMallocs }),
		})
	}
	r.cells[place{size, callers}] = cells
}

// table returns the results as a table in Markdown.
func (r *results) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s; medians of %d turns.\n\n|  |", r.machine, r.turns)
	for _, size := range r.sizes {
		for _, callers := range r.callers {
			fmt.Fprintf(&b, " %s, %d |", sizeText(size), callers)
		}
	}
	b.WriteString(" allocations | besides a deadline it has |\n| --- |" + strings.Repeat(" ---: |", len(r.sizes)*len(r.callers)+1) + " --- |\n")
	for i, peer := range r.peers {
		fmt.Fprintf(&b, "| %s |", peer.title)
		for _, size := range r.sizes {
			for _, callers := range r.callers {
				found := r.cells[place{size, callers}][i]
				if i == 0 {
					fmt.Fprintf(&b, " %.0f µs |", found.cpu/1000)
				} else {
					fmt.Fprintf(&b, " %.2f |", found.ratio)
				}
			}
		}
		first := r.cells[place{r.sizes[0], r.callers[0]}][i]
		fmt.Fprintf(&b, " %.0f + %.0f | %s |\n", first.caller, first.server, peer.on)
	}
	return b.String()
}

// sizeText returns a size in words.
func sizeText(size int) string {
	if size >= 1024 && size%1024 == 0 {
		return fmt.Sprintf("%d KiB", size/1024)
	}
	return fmt.Sprintf("%d B", size)
}

// The comments between which the table stands in a page.
const (
	tableBegin = "<!-- written by make bench-peers: begin -->\n"
	tableEnd   = "<!-- written by make bench-peers: end -->\n"
)

// writePage replaces the table of a page.
func writePage(page, table string) error {
	data, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	replaced, err := replaceTable(string(data), table)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(replaced), 0o644)
}

// replaceTable returns a text in which the table between the two comments is another one.
func replaceTable(text, table string) (string, error) {
	before, rest, ok := strings.Cut(text, tableBegin)
	if !ok {
		return "", errors.New("it has no comment at which the table begins")
	}
	_, after, ok := strings.Cut(rest, tableEnd)
	if !ok {
		return "", errors.New("it has no comment at which the table ends")
	}
	return before + tableBegin + "\n" + table + "\n" + tableEnd + after, nil
}
