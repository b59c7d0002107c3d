package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// The formats of data.
var formats = []string{"table", "plain", "json", "jsonl", "yaml"}

func checkFormat(format string) error {
	if !slices.Contains(formats, format) {
		return fmt.Errorf("--output %q: a format is one of %s", format, strings.Join(formats, ", "))
	}
	return nil
}

// row is a record of a table.
type row interface {
	// cells are the values of the columns.
	cells() []string
}

// colourer is a row that has a colour on a terminal.
type colourer interface{ colour() string }

func colourOf(of row) string {
	if has, ok := of.(colourer); ok {
		return has.colour()
	}
	return ""
}

// writeTable writes records. columns are the names of their cells.
func writeTable[R row](p *program, columns []string, rows []R) error {
	switch p.format {
	case "table":
		if len(rows) == 0 {
			return nil
		}
		var text bytes.Buffer
		table := tabwriter.NewWriter(&text, 0, 0, columnGap, ' ', 0)
		fmt.Fprintln(table, strings.Join(columns, "\t"))
		colours := []string{bold}
		for _, each := range rows {
			fmt.Fprintln(table, line(each))
			colours = append(colours, colourOf(each))
		}
		_ = table.Flush() // into memory
		for line := range strings.Lines(text.String()) {
			if _, err := fmt.Fprintln(p.out, p.coloured(colours[0], p.fitted(strings.TrimSuffix(line, "\n")))); err != nil {
				return err
			}
			colours = colours[1:]
		}
		return nil
	case "plain", "jsonl":
		for _, each := range rows {
			if err := p.writeRow(each); err != nil {
				return err
			}
		}
		return nil
	default:
		if rows == nil {
			rows = []R{}
		}
		return p.writeValue(rows)
	}
}

// columnGap is the least space between two columns of a table.
const columnGap = 2

// line returns the cells of a row between tabs, without control characters, because other
// programs may have written them into the registry.
func line(of row) string {
	cells := of.cells()
	for i, cell := range cells {
		cells[i] = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return unicode.ReplacementChar
			}
			return r
		}, cell)
	}
	return strings.TrimRight(strings.Join(cells, "\t"), "\t ")
}

// writeRow writes one record of a stream of records.
func (p *program) writeRow(each row) error {
	switch p.format {
	case "table":
		_, err := fmt.Fprintln(p.out, p.coloured(colourOf(each), p.fitted(p.padded(strings.Split(line(each), "\t")))))
		return err
	case "plain":
		_, err := fmt.Fprintln(p.out, line(each))
		return err
	case "yaml":
		if _, err := fmt.Fprintln(p.out, "---"); err != nil {
			return err
		}
		return p.writeValue(each)
	default:
		return writeJSON(p.out, each, "")
	}
}

// padded returns the cells of a row, each as wide as the widest in its column so far.
func (p *program) padded(cells []string) string {
	var out strings.Builder
	for i, cell := range cells {
		if i == len(p.widths) {
			p.widths = append(p.widths, 0)
		}
		p.widths[i] = max(p.widths[i], len([]rune(cell)))
		fmt.Fprintf(&out, "%-*s", p.widths[i]+columnGap, cell)
	}
	return strings.TrimRight(out.String(), " ")
}

// writeValue writes one value that is not a table, as JSON or YAML.
func (p *program) writeValue(value any) error {
	switch p.format {
	case "jsonl", "plain":
		return writeJSON(p.out, value, "")
	case "yaml":
		return writeYAML(p.out, value)
	default:
		return writeJSON(p.out, value, "  ")
	}
}

func writeJSON(out io.Writer, value any, indent string) error {
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	return encoder.Encode(value)
}

// writeYAML writes a value with the names and numbers that it has in JSON.
func writeYAML(out io.Writer, value any) error {
	var text bytes.Buffer
	if err := writeJSON(&text, value, ""); err != nil {
		return err
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text.Bytes(), &document); err != nil {
		return err
	}
	plainStyle(&document)
	encoder := yaml.NewEncoder(out)
	encoder.SetIndent(columnGap)
	if err := encoder.Encode(&document); err != nil {
		return err
	}
	return encoder.Close()
}

// plainStyle removes the style of JSON from a node and all below it.
func plainStyle(node *yaml.Node) {
	if len(node.Content) > 0 || node.Kind == yaml.ScalarNode {
		node.Style = 0
	}
	for _, below := range node.Content {
		plainStyle(below)
	}
}
