package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
)

// instanceRecord is an instance in the output.
type instanceRecord struct {
	API         string     `json:"api"`
	Address     string     `json:"address"`
	State       string     `json:"state"`
	Version     string     `json:"version,omitempty"`
	Zone        string     `json:"zone,omitempty"`
	Started     *time.Time `json:"started,omitempty"`
	Schema      string     `json:"schema,omitempty"`
	Incarnation string     `json:"incarnation,omitempty"`
	Service     string     `json:"service,omitempty"`
	// Reachable and the two below are of a round trip to the instance.
	Reachable bool    `json:"reachable"`
	Millis    float64 `json:"roundTripMillis,omitempty"`
	Problem   string  `json:"problem,omitempty"`
}

var instanceColumns = []string{"API", "ADDRESS", "STATE", "VERSION", "ZONE", "AGE", "SCHEMA", "REACHABLE"}

func (i instanceRecord) cells() []string {
	age := ""
	if i.Started != nil {
		age = roughly(time.Since(*i.Started))
	}
	reachable := "no: " + i.Problem
	if i.Reachable {
		reachable = fmt.Sprintf("%.1fms", i.Millis)
	}
	return []string{i.API, i.Address, i.State, i.Version, i.Zone, age, short(i.Schema), reachable}
}

// colour implements colourer.
func (i instanceRecord) colour() string {
	switch {
	case !i.Reachable:
		return red
	case i.State == string(discovery.Draining):
		return yellow
	}
	return ""
}

// roughly returns a duration in its largest unit.
func roughly(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(max(d, 0)/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d/time.Minute))
	case d < day:
		return fmt.Sprintf("%dh", int(d/time.Hour))
	default:
		return fmt.Sprintf("%dd", int(d/day))
	}
}

func newInstanceRecord(of discovery.Instance) instanceRecord {
	record := instanceRecord{
		API: of.API, Address: of.Address, State: string(of.State), Version: of.Version, Zone: of.Zone,
		Schema: of.Schema, Incarnation: of.Incarnation.String(), Service: of.Service,
	}
	if !of.Started.IsZero() {
		record.Started = &of.Started
	}
	return record
}

func (p *program) instances() *cobra.Command {
	var watching bool
	command := &cobra.Command{
		Use:   "instances [API]",
		Short: "List the instances of an API, or of all APIs",
		Long: `List the instances of an API, or of all APIs, and whether each can be reached from here.
The time is that of one round trip on a new connection.

With --watch the command prints each change until it is interrupted: "+" for a new instance,
"~" for one that has changed, and "-" for one that is gone.`,
		Example: `  onecall instances auth` + "\n" + `  onecall instances --watch -o jsonl`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			registry, err := p.registry()
			if err != nil {
				return err
			}
			defer registry.Close()
			api := ""
			if len(args) > 0 {
				api = args[0]
			}
			if watching {
				return p.watchInstances(cmd.Context(), registry, api)
			}
			return p.listInstances(cmd.Context(), registry, api)
		},
		ValidArgsFunction: p.completeAPIs,
	}
	command.Flags().BoolVarP(&watching, "watch", "w", false, "print each change, until interrupted")
	return command
}

func (p *program) listInstances(ctx context.Context, registry *etcd.Registry, api string) error {
	snapshots, err := p.all(ctx, registry, api)
	if err != nil {
		return err
	}
	var instances []discovery.Instance
	for _, snapshot := range snapshots {
		if api != "" && len(snapshot.Instances) == 0 {
			return snapshot.Err()
		}
		instances = append(instances, snapshot.Instances...)
	}
	records := make([]instanceRecord, len(instances))
	done := p.waiting("reaching the instances")
	var probes sync.WaitGroup
	for i, instance := range instances {
		probes.Go(func() { records[i] = p.probed(ctx, instance) })
	}
	probes.Wait()
	done()
	return writeTable(p, instanceColumns, records)
}

// probed returns the record of an instance, with the time of a round trip to it.
func (p *program) probed(ctx context.Context, instance discovery.Instance) instanceRecord {
	record := newInstanceRecord(instance)
	ping := p.pingOne(ctx, instance, 1)
	record.Problem, record.Reachable, record.Millis = ping.Problem, ping.Problem == "", ping.Max
	return record
}

// millis returns a duration in milliseconds, to the microsecond.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 } //nolint:mnd // of a millisecond

// dial returns a connection to one instance.
func (p *program) dial(instance discovery.Instance) (*framework.Conn, error) {
	alone := memory.New()
	instance.State = discovery.Serving // a draining instance can be reached too
	if _, err := alone.Register(instance); err != nil {
		return nil, err
	}
	options, err := p.busOptions()
	if err != nil {
		return nil, err
	}
	return framework.Dial(alone, instance.API, options...)
}

// roundTrip measures a call of the health service.
func roundTrip(ctx context.Context, conn *framework.Conn, options ...grpc.CallOption) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	began := time.Now()
	_, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}, options...)
	if err != nil {
		return 0, errors.New(remedy(unreached(err)))
	}
	return time.Since(began), nil
}

// unreached returns why an instance was not reached.
func unreached(err error) string {
	if broken, ok := errors.AsType[*discovery.ConnectionError](err); ok && len(broken.Instances) == 1 {
		return broken.Instances[0].Text
	}
	return status.Convert(err).Message()
}
