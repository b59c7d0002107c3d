package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
)

// changeRecord is a change of an instance in the output.
type changeRecord struct {
	instanceFields

	Time   time.Time `json:"time"`
	Change string    `json:"change"`
}

// instanceFields are those fields of an instanceRecord that need no connection to the
// instance.
type instanceFields struct {
	API         string `json:"api"`
	Address     string `json:"address"`
	State       string `json:"state"`
	Version     string `json:"version,omitempty"`
	Zone        string `json:"zone,omitempty"`
	Schema      string `json:"schema,omitempty"`
	Incarnation string `json:"incarnation,omitempty"`
}

// The changes of an instance, and the signs that a table has for them.
const (
	added, addedSign     = "added", "+"
	modified, changeSign = "changed", "~"
	removed, removedSign = "removed", "-"
)

var signs = map[string]string{added: addedSign, modified: changeSign, removed: removedSign}

func (c changeRecord) cells() []string {
	return []string{c.Time.Format(time.TimeOnly), signs[c.Change], c.API, c.Address, c.State, c.Version, c.Zone}
}

func newChangeRecord(change string, of discovery.Instance) changeRecord {
	fields := instanceFields{of.API, of.Address, string(of.State), of.Version, of.Zone, of.Schema, of.Incarnation.String()}
	return changeRecord{fields, time.Now().UTC().Truncate(time.Millisecond), change}
}

// changes returns how the instances of an API have changed.
func changes(before, after []discovery.Instance) []changeRecord {
	old := make(map[string]discovery.Instance)
	for _, instance := range before {
		old[instance.Address] = instance
	}
	var records []changeRecord
	for _, instance := range after {
		was, known := old[instance.Address]
		delete(old, instance.Address)
		switch {
		case known && was.Incarnation != instance.Incarnation:
			records = append(records, newChangeRecord(removed, was), newChangeRecord(added, instance))
		case !known:
			records = append(records, newChangeRecord(added, instance))
		case !was.Equal(instance):
			records = append(records, newChangeRecord(modified, instance))
		}
	}
	for _, instance := range before {
		if _, gone := old[instance.Address]; gone {
			records = append(records, newChangeRecord(removed, instance))
		}
	}
	return records
}

// colour implements colourer.
func (c changeRecord) colour() string { return changeColours[c.Change] }

var changeColours = map[string]string{added: green, modified: yellow, removed: red}

// watchInstances prints the changes of the instances of an API, or of all, until ctx ends.
func (p *program) watchInstances(ctx context.Context, registry *etcd.Registry, api string) error {
	printed := make(map[string][]discovery.Instance)
	return p.watch(ctx, registry, api, func(snapshot discovery.Snapshot) error {
		for _, change := range changes(printed[snapshot.API], snapshot.Instances) {
			if err := p.writeRow(change); err != nil {
				return err
			}
		}
		printed[snapshot.API] = snapshot.Instances
		return nil
	})
}

// watch calls show with what the registry knows of an API, or of all, after each change,
// until ctx ends or show fails.
func (p *program) watch(ctx context.Context, registry *etcd.Registry, api string, show func(discovery.Snapshot) error) error {
	if _, err := p.all(ctx, registry, api); err != nil && ctx.Err() == nil {
		return err
	}
	watching := watch(ctx, registry, api)
	for away := false; ; {
		select {
		case <-watching.changed:
		case <-ctx.Done():
			return nil
		}
		snapshots := watching.snapshots()
		for _, snapshot := range snapshots {
			if err := show(snapshot); err != nil {
				return err
			}
		}
		away = p.reportOutage(away, snapshots)
	}
}

// reportOutage says on standard error when an outage of the registry begins and ends. It
// returns whether there is one now. away is what it has returned before.
func (p *program) reportOutage(away bool, snapshots []discovery.Snapshot) bool {
	at := slices.IndexFunc(snapshots, func(s discovery.Snapshot) bool { return s.Unreachable != nil })
	switch {
	case at >= 0 && !away:
		fmt.Fprintf(p.errs, "onecall: %s\n", remedy(oneLine(snapshots[at].Unreachable.Error())))
	case at < 0 && away:
		fmt.Fprintln(p.errs, "onecall: the registry can be reached again")
	}
	return at >= 0
}
