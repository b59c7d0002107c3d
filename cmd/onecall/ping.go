package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/etcd"
)

// pingRecord has the round trips to an instance.
type pingRecord struct {
	API      string  `json:"api"`
	Address  string  `json:"address"`
	State    string  `json:"state"`
	Sent     int     `json:"sent"`
	Answered int     `json:"answered"`
	Min      float64 `json:"minMillis,omitempty"`
	Median   float64 `json:"medianMillis,omitempty"`
	Max      float64 `json:"maxMillis,omitempty"`
	Problem  string  `json:"problem,omitempty"`
}

var pingColumns = []string{"API", "ADDRESS", "STATE", "SENT", "ANSWERED", "MIN", "MEDIAN", "MAX", "PROBLEM"}

func (r pingRecord) cells() []string {
	times := []string{"", "", ""}
	if r.Answered > 0 {
		times = []string{fmt.Sprintf("%.1fms", r.Min), fmt.Sprintf("%.1fms", r.Median), fmt.Sprintf("%.1fms", r.Max)}
	}
	return append(append([]string{r.API, r.Address, r.State, strconv.Itoa(r.Sent), strconv.Itoa(r.Answered)}, times...), r.Problem)
}

func (p *program) ping() *cobra.Command {
	count := 5
	command := &cobra.Command{
		Use:   "ping API",
		Short: "Measure round trips to each instance of an API",
		Long: `Measure round trips to each instance of an API, with calls of its health service, one after
the other on one connection. The first connects and is not counted. The exit code is 1 if an
instance does not answer.`,
		Example: `  onecall ping auth`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if count < 1 {
				return usage(fmt.Errorf("--count %d: give 1 or more", count))
			}
			registry, err := p.registry()
			if err != nil {
				return err
			}
			defer registry.Close()
			return p.pingAll(cmd.Context(), registry, args[0], count)
		},
		ValidArgsFunction: p.completeAPIs,
	}
	command.Flags().IntVarP(&count, "count", "c", count, "how many round trips to each instance")
	return command
}

func (p *program) pingAll(ctx context.Context, registry *etcd.Registry, api string, count int) error {
	snapshots, err := p.all(ctx, registry, api)
	if err != nil {
		return err
	}
	instances := snapshots[0].Instances
	if len(instances) == 0 {
		return snapshots[0].Err()
	}
	records := make([]pingRecord, len(instances))
	done := p.waiting("reaching the instances")
	var pings sync.WaitGroup
	for i, instance := range instances {
		pings.Go(func() { records[i] = p.pingOne(ctx, instance, count) })
	}
	pings.Wait()
	done()
	if err := writeTable(p, pingColumns, records); err != nil {
		return err
	}
	silent := 0
	for _, record := range records {
		if record.Problem != "" {
			silent++
		}
	}
	if silent > 0 {
		return fmt.Errorf("%d of %d instances of %s did not answer", silent, len(records), api)
	}
	return nil
}

// pingOne measures round trips to an instance, until one fails.
func (p *program) pingOne(ctx context.Context, instance discovery.Instance, count int) pingRecord {
	record := pingRecord{API: instance.API, Address: instance.Address, State: string(instance.State)}
	took, err := p.probe(ctx, instance, count, &record.Sent)
	if err != nil {
		record.Problem = oneLine(err.Error())
	}
	record.Answered = len(took)
	if len(took) > 0 {
		slices.Sort(took)
		record.Min, record.Median, record.Max = millis(took[0]), millis(took[len(took)/2]), millis(took[len(took)-1])
	}
	return record
}

// probeLimit is how long an instance may take to answer.
const probeLimit = 2 * time.Second

// probe measures round trips to an instance, until one fails. It calls the health service
// as a bus would call the instance: with the same TLS, and only if it is the registered
// incarnation. It counts the calls in sent, without the first, which connects.
func (p *program) probe(ctx context.Context, instance discovery.Instance, count int, sent *int) ([]time.Duration, error) {
	conn, err := p.dial(instance)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // its calls have ended
	if _, err := roundTrip(ctx, conn); err != nil {
		return nil, err
	}
	var took []time.Duration
	for range count {
		*sent++
		one, err := roundTrip(ctx, conn)
		if err != nil {
			return took, err
		}
		took = append(took, one)
	}
	return took, nil
}
