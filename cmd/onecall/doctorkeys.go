package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
)

// examineKeys checks the keys in etcd and the leases that they are under.
func (d *doctor) examineKeys(ctx context.Context, entries []etcd.Entry) error {
	leases := make(map[int64][]etcd.Entry)
	for _, entry := range entries {
		switch {
		case entry.Err != nil:
			d.found("keys", "the key "+entry.Key+" is of no use", "callers skip it: "+entry.Err.Error(), "etcdctl del "+quoted(entry.Key))
		case entry.Instance.API == "": // descriptors, or the mark of an API
		case entry.Lease == 0 && !entry.Instance.Incarnation.IsZero():
			d.found("keys", "the key "+entry.Key+" is under no lease", "so callers use the instance at "+entry.Instance.Address+" also after its process has ended",
				"etcdctl del "+quoted(entry.Key)+"; a process that runs registers again by itself")
		case entry.Lease != 0:
			leases[entry.Lease] = append(leases[entry.Lease], entry)
		}
	}
	return d.client(ctx, d.config.Endpoints, func(ctx context.Context, client *clientv3.Client) error {
		late := make(map[int64]lateLease)
		for id := range leases {
			reply, err := client.TimeToLive(ctx, clientv3.LeaseID(id))
			if err != nil {
				return err
			}
			if reply.TTL > 0 && reply.TTL*2 < reply.GrantedTTL {
				late[id] = lateLease{reply.TTL, reply.GrantedTTL, time.Now()}
			}
		}
		return d.examineLate(ctx, client, late, leases)
	})
}

// quoted returns a word for a shell.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

// lateLease is a lease of which less than half is left. A process renews its lease when two
// thirds are left.
type lateLease struct {
	left, ttl int64
	read      time.Time
}

// examineLate looks at leases again until each was renewed, has ended, or a third of it has
// passed: a busy process may be late.
func (d *doctor) examineLate(ctx context.Context, client *clientv3.Client, late map[int64]lateLease, keys map[int64][]etcd.Entry) error {
	const every = 200 * time.Millisecond
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for len(late) > 0 {
		for id, before := range late {
			reply, err := client.TimeToLive(ctx, clientv3.LeaseID(id))
			switch {
			case err != nil:
				return err
			case reply.TTL > before.left: // it was renewed
				delete(late, id)
			case reply.TTL <= 0, time.Since(before.read) > time.Duration(before.ttl)*time.Second/3:
				d.lateLease(keys[id], before)
				delete(late, id)
			}
		}
		if len(late) == 0 {
			break
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			for id, before := range late { // it takes longer to find out more
				d.lateLease(keys[id], before)
			}
			return nil
		}
	}
	return nil
}

func (d *doctor) lateLease(entries []etcd.Entry, late lateLease) {
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Instance.API+" at "+entry.Instance.Address)
	}
	slices.Sort(names)
	d.found("lease", "the lease of "+strings.Join(names, ", ")+" is not renewed",
		fmt.Sprintf("%d of its %d seconds were left, and a process that runs renews it when two thirds are left: it has ended, is frozen, or cannot reach etcd", late.left, late.ttl),
		"look at the process and its log; when the lease ends, callers forget the instance")
}

// examineAddresses checks the addresses and clocks of instances without connecting. It
// returns the addresses of several processes, of which only one can be reached.
func (d *doctor) examineAddresses(instances []discovery.Instance, remote bool) (doubled map[string]bool) {
	processes := make(map[string]map[discovery.Incarnation]string)
	for _, instance := range instances {
		if ahead := time.Until(instance.Started); ahead > maxSkew {
			d.found("clock", fmt.Sprintf("%s at %s started %v from now", instance.API, instance.Address, ahead.Round(time.Second)),
				"its clock is ahead of the one here, so certificates may be refused and times in logs cannot be compared", "run NTP on both machines")
		}
		if instance.Incarnation.IsZero() {
			continue
		}
		if processes[instance.Address] == nil {
			processes[instance.Address] = make(map[discovery.Incarnation]string)
		}
		text := fmt.Sprintf("%s, %v", instance.API, instance.Incarnation)
		if !instance.Started.IsZero() {
			text += ", started at " + instance.Started.UTC().Format(time.RFC3339)
		}
		processes[instance.Address][instance.Incarnation] = text
	}
	doubled = make(map[string]bool)
	for address, all := range processes {
		if len(all) < 2 { //nolint:mnd // several
			continue
		}
		doubled[address] = true
		d.found("address", fmt.Sprintf("%d processes have the address %s", len(all), address),
			"only one of them can be called there: "+strings.Join(slices.Sorted(maps.Values(all)), "; "),
			"if one was just killed, its key ends with its lease; else have each process register an address of its own (ONECALL_ADVERTISE)")
	}
	if remote {
		d.examineLoopback(instances)
	}
	return doubled
}

// examineLoopback finds the addresses that other machines cannot reach, where there are
// other machines.
func (d *doctor) examineLoopback(instances []discovery.Instance) {
	seen := make(map[string]bool)
	for _, instance := range instances {
		if isLoopback(instance.Address) && !seen[instance.Address] {
			seen[instance.Address] = true
			d.found("address", instance.API+" has the loopback address "+instance.Address, "only programs on its own machine can reach it, and the registry is used by others",
				"set ONECALL_LISTEN or ONECALL_ADVERTISE of the service to an address that callers can reach")
		}
	}
}
