package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/internal/schema"
	"github.com/onecall-dev/onecall/internal/schemafile"
)

// What a change can break.
const (
	breaksWire  = "wire"
	breaksCode  = "code"
	breaksNames = "names"
)

// breakRecord is a change that breaks something, in the output.
type breakRecord struct {
	Breaks []string `json:"breaks"`
	Kind   string   `json:"kind"`
	Part   string   `json:"part"`
	Old    string   `json:"old,omitempty"`
	New    string   `json:"new,omitempty"`
	Remedy string   `json:"remedy"`
	// StrictSchema is true if a bus with that option does not call an instance after the
	// change.
	StrictSchema bool `json:"strictSchema"`
}

var breakColumns = []string{"BREAKS", "CHANGE", "PART", "OLD", "NEW", "REMEDY"}

func (c breakRecord) cells() []string {
	return []string{strings.Join(c.Breaks, ","), c.Kind, c.Part, c.Old, c.New, c.Remedy}
}

func newBreakRecord(of schema.Difference) breakRecord {
	effect := of.Kind.Effect()
	record := breakRecord{
		Kind: string(of.Kind), Part: of.Part, Old: of.Built, New: of.Served, Remedy: effect.Remedy, StrictSchema: effect.Incompatible,
	}
	for _, each := range []struct {
		broken bool
		what   string
	}{{effect.Wire, breaksWire}, {effect.Code, breaksCode}, {effect.Names, breaksNames}} {
		if each.broken {
			record.Breaks = append(record.Breaks, each.what)
		}
	}
	return record
}

func (p *program) schemaDiff() *cobra.Command {
	var imports []string
	breaks := []string{breaksWire, breaksCode, breaksNames}
	command := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "List the changes of schemas that break callers",
		Long: `List the changes from OLD to NEW that break programs which were built with OLD, each with its
kind, its part and what to do instead. The exit code is 1 if there is one. A change breaks

  wire   programs that run: one built with OLD and one built with NEW
  code   programs that are compiled again, with the generated code of NEW
  names  calls by name, and JSON

APIs that are only in NEW break nothing. If OLD or NEW has several schemas of an API, such as a
registry during a deployment, each is compared with each.

` + sourceHelp,
		Example: `  onecall schema diff registry proto` + "\n" + `  onecall schema diff production.schema proto --breaks wire,names`,
		Args:    cobra.ExactArgs(2), //nolint:mnd // OLD and NEW
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, each := range breaks {
				if !slices.Contains([]string{breaksWire, breaksCode, breaksNames}, each) {
					return usage(fmt.Errorf("--breaks %q: a change can break %s, %s and %s", each, breaksWire, breaksCode, breaksNames))
				}
			}
			before, err := p.schemas(cmd.Context(), args[0], imports)
			if err != nil {
				return err
			}
			after, err := p.schemas(cmd.Context(), args[1], imports)
			if err != nil {
				return err
			}
			return p.listChanges(before, after, breaks)
		},
	}
	importFlag(command, &imports)
	command.Flags().StringSliceVar(&breaks, "breaks", breaks, "list only changes that break one of these")
	return command
}

// listChanges lists the changes that break something in breaks.
func (p *program) listChanges(before, after []schemafile.API, breaks []string) error {
	var records []breakRecord
	seen := make(map[schema.Difference]bool)
	for _, old := range before {
		changes, err := changesOf(old, after)
		if err != nil {
			return err
		}
		for _, change := range changes {
			record := newBreakRecord(change)
			wanted := slices.ContainsFunc(record.Breaks, func(what string) bool { return slices.Contains(breaks, what) })
			if wanted && !seen[change] {
				seen[change] = true
				records = append(records, record)
			}
		}
	}
	if err := writeTable(p, breakColumns, records); err != nil {
		return err
	}
	if len(records) > 0 {
		return fmt.Errorf("%d %s callers", len(records), plural(len(records), "change breaks", "changes break"))
	}
	return nil
}

// changesOf returns the changes of an API: from its schema to each that has the same service,
// or else the same bus name.
func changesOf(old schemafile.API, after []schemafile.API) ([]schema.Difference, error) {
	otherService := func(a schemafile.API) bool { return a.Service != old.Service }
	otherName := func(a schemafile.API) bool { return a.API != old.API }
	same := slices.DeleteFunc(slices.Clone(after), otherService)
	if len(same) == 0 {
		same = slices.DeleteFunc(slices.Clone(after), otherName)
	}
	if len(same) == 0 {
		return []schema.Difference{schema.Removed(old.API)}, nil
	}
	left, err := old.Unpack()
	if err != nil {
		return nil, err
	}
	var changes []schema.Difference
	for _, one := range same {
		right, err := one.Unpack()
		if err != nil {
			return nil, err
		}
		changes = append(changes, schema.Changes(old.API, left.Service, one.API, right.Service)...)
	}
	return changes, nil
}
