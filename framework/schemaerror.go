package framework

import (
	"fmt"
	"strings"

	"github.com/onecall-dev/onecall/internal/quote"
)

// SchemaError says that an instance has a schema with which calls of this
// program may go wrong. Under [StrictSchema] it is not called.
type SchemaError struct {
	// API is the bus name, Address and Version are the instance's.
	API, Address, Version string
	// Differences say each what it is here and there, each shortened, the first
	// 100.
	Differences []string
}

// shownDifferences is how many a text shows.
const shownDifferences = 10

// Error implements error.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("API %q: the instance at %s (version %s) has a schema that is incompatible with the one of this program: %s; "+
		"build both from compatible .proto files, or leave StrictSchema out", e.API, quote.Line(e.Address, quote.TextLimit), quote.Text(e.Version), e.shown())
}

// shown returns the first differences, for errors and log lines.
func (e *SchemaError) shown() string {
	shown := strings.Join(e.Differences[:min(len(e.Differences), shownDifferences)], "; ")
	if more := len(e.Differences) - shownDifferences; more > 0 {
		shown += fmt.Sprintf("; and %d more", more)
	}
	return shown
}
