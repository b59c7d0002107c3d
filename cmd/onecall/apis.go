package main

import (
	"cmp"
	"context"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
)

// apiRecord is an API in the output.
type apiRecord struct {
	API      string     `json:"api"`
	Service  string     `json:"service,omitempty"`
	Serving  int        `json:"serving"`
	Draining int        `json:"draining"`
	Versions []string   `json:"versions"`
	Schemas  []string   `json:"schemas"`
	LastSeen *time.Time `json:"lastSeen,omitempty"`
}

var apiColumns = []string{"API", "SERVICE", "SERVING", "DRAINING", "VERSIONS", "SCHEMAS", "LAST SEEN"}

func (a apiRecord) cells() []string {
	seen := ""
	if a.LastSeen != nil {
		seen = a.LastSeen.UTC().Format(time.RFC3339)
	}
	return []string{a.API, a.Service, strconv.Itoa(a.Serving), strconv.Itoa(a.Draining), strings.Join(a.Versions, ","), strings.Join(shortAll(a.Schemas), ","), seen}
}

// newAPIRecord returns the record of an API.
func newAPIRecord(of discovery.Snapshot) apiRecord {
	record := apiRecord{API: of.API}
	versions, schemas := make(map[string]bool), make(map[string]bool)
	for _, instance := range of.Instances {
		if instance.State == discovery.Draining {
			record.Draining++
		} else {
			record.Serving++
		}
		record.Service = cmp.Or(record.Service, instance.Service)
		versions[instance.Version], schemas[instance.Schema] = true, true
	}
	delete(versions, "")
	delete(schemas, "")
	record.Versions = append([]string{}, slices.Sorted(maps.Keys(versions))...)
	record.Schemas = append([]string{}, slices.Sorted(maps.Keys(schemas))...)
	if !of.LastSeen.IsZero() {
		record.LastSeen = &of.LastSeen
	}
	return record
}

// shortSchema is how many characters of a digest a table shows.
const shortSchema = 8

func short(digest string) string { return digest[:min(len(digest), shortSchema)] }

func shortAll(digests []string) []string {
	var out []string
	for _, digest := range digests {
		out = append(out, short(digest))
	}
	return out
}

// apiChangeRecord is a change of an API in the output.
type apiChangeRecord struct {
	apiRecord

	Time   time.Time `json:"time"`
	Change string    `json:"change"`
}

func (c apiChangeRecord) cells() []string {
	return []string{c.Time.Format(time.TimeOnly), signs[c.Change], c.API, strconv.Itoa(c.Serving) + " serving", strconv.Itoa(c.Draining) + " draining", strings.Join(c.Versions, ",")}
}

// colour implements colourer.
func (c apiChangeRecord) colour() string { return changeColours[c.Change] }

// colour implements colourer.
func (a apiRecord) colour() string {
	if a.Serving == 0 {
		return yellow
	}
	return ""
}

func (p *program) apis() *cobra.Command {
	var watching bool
	command := &cobra.Command{
		Use:   "apis",
		Short: "List the APIs of the registry",
		Long: `List the APIs of the registry, also those that are not served now.

With --watch the command prints each change until it is interrupted: "+" for an API, and "~"
when its instances have changed.`,
		Example: `  onecall apis` + "\n" + `  onecall apis --watch -o jsonl`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			registry, err := p.registry()
			if err != nil {
				return err
			}
			defer registry.Close()
			if watching {
				return p.watchAPIs(cmd.Context(), registry)
			}
			return p.listAPIs(cmd.Context(), registry)
		},
	}
	command.Flags().BoolVarP(&watching, "watch", "w", false, "print each change, until interrupted")
	return command
}

func (p *program) listAPIs(ctx context.Context, registry *etcd.Registry) error {
	snapshots, err := p.all(ctx, registry, "")
	if err != nil {
		return err
	}
	var records []apiRecord
	for _, snapshot := range snapshots {
		records = append(records, newAPIRecord(snapshot))
	}
	return writeTable(p, apiColumns, records)
}

// watchAPIs prints the changes of all APIs until ctx ends.
func (p *program) watchAPIs(ctx context.Context, registry *etcd.Registry) error {
	printed := make(map[string]apiRecord)
	return p.watch(ctx, registry, "", func(snapshot discovery.Snapshot) error {
		record := newAPIRecord(snapshot)
		before, known := printed[record.API]
		if !snapshot.Known || known && reflect.DeepEqual(before, record) {
			return nil // it was not listed yet, or something else has changed
		}
		printed[record.API] = record
		change := added
		if known {
			change = modified
		}
		return p.writeRow(apiChangeRecord{record, time.Now().UTC().Truncate(time.Millisecond), change})
	})
}
