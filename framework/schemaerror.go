package framework

import (
	"fmt"
	"strings"

	"github.com/onecall-dev/onecall/internal/quote"
)

// SchemaError says that an instance has a schema that is incompatible with the schema
// of this program. With option [StrictSchema] the bus does not call the instance.
type SchemaError struct {
	// API is the bus name. Address and Version are those of the instance.
	API, Address, Version string
	// Differences are the first 100 differences. Each has both sides, shortened.
	Differences []string
}

// shownDifferences is how many differences the text of the error shows at most.
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
