package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/internal/quote"
)

// finding is something that is wrong, in the output.
type finding struct {
	// Check is the check that found it, such as "space".
	Check string `json:"check"`
	// Finding says what is wrong, Why how that was found and what it leads to, and Remedy
	// what to do.
	Finding string `json:"finding"`
	Why     string `json:"why"`
	Remedy  string `json:"remedy"`
}

func (f finding) cells() []string { return []string{f.Check, f.Finding, f.Why, f.Remedy} }

// doctor looks for what is wrong with a registry and its instances.
type doctor struct {
	program *program
	config  etcd.Config
	// readOnly says that nothing is checked that only services need.
	readOnly bool

	// unusable says that the files for TLS with instances cannot be used.
	unusable bool

	// mu guards the findings.
	mu       sync.Mutex
	findings []finding
}

// maxFindingBytes bounds each text of a finding, because other programs may have written
// parts of it into etcd.
const maxFindingBytes = 1000

// found adds a finding. Its goroutine may be any.
func (d *doctor) found(check, what, why, remedy string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.findings = append(d.findings, finding{check, quote.Line(what, maxFindingBytes), quote.Line(why, maxFindingBytes), remedy})
}

func (p *program) doctor() *cobra.Command {
	readOnly := false
	command := &cobra.Command{
		Use:   "doctor",
		Short: "Find what is wrong with the registry and its instances",
		Long: `Find what is wrong with the registry and its instances. It prints nothing if all is well, else
each finding, why it is one, and the remedy, and the exit code is 1.

etcd: whether each endpoint can be reached and has a leader, its certificates, its space and
alarms, its clock, whether the user may read and write the keys of the registry, and leases.
Keys: those that callers cannot use, those that stay after their process, and leases that are
not renewed. Instances: whether each can be reached from here, its certificate and its clock,
loopback addresses, two processes at one address, and incompatible schemas of one API.

It changes nothing in etcd but for a lease without keys, which it revokes.`,
		Example: `  onecall doctor` + "\n" + `  onecall doctor -o json`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			config, err := p.etcdConfig()
			if err != nil {
				return usage(err)
			}
			d := &doctor{program: p, config: config, readOnly: readOnly}
			done := p.waiting("examining")
			err = d.examine(cmd.Context())
			done()
			if shown := p.showFindings(d.findings, err); err == nil {
				return shown
			}
			return err
		},
	}
	command.Flags().BoolVar(&readOnly, "read-only", false, "do not check leases, nor that the user may register instances, as callers need neither")
	return command
}

// examine makes all checks.
func (d *doctor) examine(ctx context.Context) error {
	registry, err := d.program.registry()
	if err != nil {
		return err
	}
	defer registry.Close()
	if !d.examineEndpoints(ctx) {
		return nil // nothing else can be known
	}
	apis, err := d.examinePermissions(ctx)
	if err != nil {
		return err
	}
	if apis == nil {
		return nil // keys cannot be read
	}
	entries, err := registry.Entries(ctx)
	if err != nil {
		return err
	}
	if err := d.examineKeys(ctx, entries); err != nil {
		return err
	}
	d.examineInstances(ctx, entries)
	d.examineSchemas(ctx, registry, entries)
	return ctx.Err()
}

// checks are the names of all checks, in the order in which findings are shown.
var checks = []string{"etcd", "tls", "space", "clock", "permissions", "lease", "keys", "address", "instance", "schema"}

// showFindings prints the findings. It is an error if there are any. failed is why there may
// be more.
func (p *program) showFindings(findings []finding, failed error) error {
	slices.SortStableFunc(findings, func(a, b finding) int {
		return cmp.Or(cmp.Compare(slices.Index(checks, a.Check), slices.Index(checks, b.Check)), cmp.Compare(a.Finding, b.Finding))
	})
	if p.format != "table" {
		if err := writeTable(p, nil, findings); err != nil {
			return err
		}
	} else {
		for i, each := range findings {
			if i > 0 {
				fmt.Fprintln(p.out)
			}
			fmt.Fprintf(p.out, "%s %s\n  %s %s\n  %s %s\n", p.coloured(red, "✗"), p.coloured(bold, each.Finding),
				p.coloured(yellow, "why:"), each.Why, p.coloured(green, "do: "), each.Remedy)
		}
	}
	switch len(findings) {
	case 0:
		if p.verbose && failed == nil {
			fmt.Fprintln(p.errs, "all is well")
		}
		return nil
	case 1:
		return fmt.Errorf("1 problem (%s)", findings[0].Check)
	default:
		return fmt.Errorf("%d problems", len(findings))
	}
}
