package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	grpcresolver "google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/bench/internal/measure"
	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/resolver"
)

// startEtcd starts an etcd, at an address that a previous one had, or "".
func (b *bench) startEtcd(ctx context.Context, listen string) (*measure.Server, error) {
	return measure.Start(ctx, b.etcd, []string{"-listen", listen})
}

// withEtcd starts an etcd, calls do with its URL, and stops it.
func (b *bench) withEtcd(ctx context.Context, do func(endpoint string) error) error {
	etcd, err := b.startEtcd(ctx, "")
	if err != nil {
		return err
	}
	return errors.Join(do(etcd.Address), etcd.Stop())
}

// list takes the place of grpc-go's ClientConn and stores what a resolver reports.
type list struct {
	grpcresolver.ClientConn

	told chan time.Time
}

func (l *list) UpdateState(grpcresolver.State) error {
	l.told <- time.Now()
	return nil
}

func (l *list) ReportError(error) {}

// event measures the time from a put until a caller's list has changed, and its
// allocations.
func (b *bench) event(ctx context.Context) error {
	fmt.Println("From a put, by another process, to a caller's list:")
	fmt.Printf("  %9s  %10s  %10s  %18s\n", "instances", "median", "p99", "allocations/event")
	for _, size := range []int{1, 100, 1000} {
		if err := b.withEtcd(ctx, func(endpoint string) error { return b.eventAt(ctx, endpoint, size) }); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) eventAt(ctx context.Context, endpoint string, size int) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	keys, addresses, incarnations := make([]string, size), make([]string, size), make([]string, size)
	for i := range size {
		incarnation := discovery.NewIncarnation()
		keys[i] = "onecall/apis/bench/" + incarnation.String()
		addresses[i], incarnations[i] = fmt.Sprintf("10.0.%d.%d:443", i/250, i%250), incarnation.String()
		if _, err := client.Put(ctx, keys[i], value(addresses[i], incarnations[i], "v0")); err != nil {
			return err
		}
	}
	writer, err := spawn(ctx, "writer", endpoint)
	if err != nil {
		return err
	}
	registry, err := openRegistry(endpoint)
	if err != nil {
		return err
	}
	defer registry.Close()
	target, err := url.Parse(resolver.Target("bench"))
	if err != nil {
		return err
	}
	told := &list{told: make(chan time.Time, 16)}
	built, err := resolver.NewBuilder(registry, resolver.Config{Logger: quiet}).Build(grpcresolver.Target{URL: *target}, told, grpcresolver.BuildOptions{})
	if err != nil {
		return err
	}
	defer built.Close()
	<-told.told
	const events = 1000
	took := make([]time.Duration, events)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range took {
		at := rand.IntN(size)
		var began time.Time
		if err := writer.ask(keys[at]+" "+value(addresses[at], incarnations[at], "v"+strconv.Itoa(i+1)), &began); err != nil {
			return err
		}
		took[i] = (<-told.told).Round(0).Sub(began) // both by the wall clock
	}
	runtime.ReadMemStats(&after)
	slices.Sort(took)
	// The loop's own allocations are not the registry's.
	fmt.Printf("  %9d  %10v  %10v  %18.0f\n", size, took[events/2].Round(time.Microsecond), took[events*99/100].Round(time.Microsecond),
		float64(after.Mallocs-before.Mallocs)/events)
	return writer.stop()
}

// value is the value of an instance's key.
func value(address, incarnation, version string) string {
	return fmt.Sprintf(`{"Op":0,"Addr":%q,"Metadata":{"incarnation":%q,"service":"bench.v1.BenchService","state":"serving","version":%q,"zone":"a",`+
		`"started":"2026-01-02T03:04:05.678Z"}}`, address, incarnation, version)
}

// memory measures a caller's memory for each API that it is connected to.
func (b *bench) memory(ctx context.Context) error {
	return b.withEtcd(ctx, func(endpoint string) error {
		many, err := spawn(ctx, "many", endpoint)
		if err != nil {
			return err
		}
		fmt.Printf("What a caller holds for each of %d APIs, its connection to an instance included:\n", knownAPIs)
		for _, role := range []string{"plain-knowing=" + many.first, "knowing"} {
			caller, err := spawn(ctx, role, endpoint)
			if err != nil {
				return err
			}
			var before, after usage
			if err := errors.Join(caller.ask("", &before), caller.ask("", &after), caller.stop()); err != nil {
				return err
			}
			name, _, _ := strings.Cut(role, "=")
			const more = knownAPIs - 1
			fmt.Printf("  %-14s %5.2f goroutines, %5.1f KiB\n", name, float64(after.Goroutines-before.Goroutines)/more, float64(after.Bytes-before.Bytes)/more/1024)
		}
		return many.stop()
	})
}

// start measures the time from exec to ready, alternating between the programs.
func (b *bench) start(ctx context.Context) error {
	return b.withEtcd(ctx, func(endpoint string) error {
		service, err := spawn(ctx, "service", endpoint)
		if err != nil {
			return err
		}
		took := make(map[string][]time.Duration)
		roles := []string{"plain-service", "service", "plain-caller=" + service.first, "caller"}
		for range b.turns {
			for _, role := range roles {
				started, err := spawn(ctx, role, endpoint)
				if err != nil {
					return err
				}
				took[role] = append(took[role], started.took)
				if err := started.stop(); err != nil {
					return err
				}
			}
		}
		fmt.Printf("From exec to ready, medians of %d turns:\n", b.turns)
		median := func(role string) time.Duration {
			slices.Sort(took[role])
			return took[role][len(took[role])/2].Round(10 * time.Microsecond)
		}
		fmt.Printf("  a service is registered after %v, plain grpc-go listens after %v: %v more\n", median(roles[1]), median(roles[0]), median(roles[1])-median(roles[0]))
		fmt.Printf("  a caller has a reply after %v, plain grpc-go after %v: %v more\n", median(roles[3]), median(roles[2]), median(roles[3])-median(roles[2]))
		return service.stop()
	})
}

// idle measures the CPU of idle programs.
func (b *bench) idle(ctx context.Context) error {
	return b.withEtcd(ctx, func(endpoint string) error {
		service, err := spawn(ctx, "service", endpoint)
		if err != nil {
			return err
		}
		caller, err := spawn(ctx, "caller", endpoint)
		if err != nil {
			return err
		}
		var before, after [2]usage
		ask := func(out *[2]usage) error { return errors.Join(service.ask("", &out[0]), caller.ask("", &out[1])) }
		if err := ask(&before); err != nil {
			return err
		}
		if err := wait(ctx, b.length); err != nil {
			return err
		}
		if err := ask(&after); err != nil {
			return err
		}
		fmt.Printf("CPU in %v of doing nothing: a service %v, a caller %v (two collections of garbage included)\n",
			b.length, after[0].CPU-before[0].CPU, after[1].CPU-before[1].CPU)
		return errors.Join(caller.stop(), service.stop())
	})
}

// fleet measures what many idle instances cost etcd, and what they do when it restarts
// without data.
func (b *bench) fleet(ctx context.Context) error {
	etcd, err := b.startEtcd(ctx, "")
	if err != nil {
		return err
	}
	fleet, err := spawn(ctx, "fleet="+strconv.Itoa(b.size), etcd.Address)
	if err != nil {
		return err
	}
	if err := wait(ctx, 5*time.Second); err != nil {
		return err
	}
	before, err := requests(ctx, etcd.Address)
	if err != nil {
		return err
	}
	used, err := usedIn(ctx, etcd, b.length)
	if err != nil {
		return err
	}
	after, err := requests(ctx, etcd.Address)
	if err != nil {
		return err
	}
	fmt.Printf("What %d idle instances cost etcd a second: %.1f %% of a core\n", b.size, 100*float64(used)/float64(b.length))
	for _, method := range []string{"LeaseKeepAlive", "Txn", "Range", "Put", "LeaseGrant"} {
		fmt.Printf("  %-15s %7.1f\n", method, (after[method]-before[method])/b.length.Seconds())
	}

	address := strings.TrimPrefix(etcd.Address, "http://")
	if err := errors.Join(etcd.Stop(), wait(ctx, 20*time.Second)); err != nil { // longer than a lease
		return err
	}
	if etcd, err = b.startEtcd(ctx, address); err != nil {
		return err
	}
	began := time.Now()
	var counts []float64
	const every = 250 * time.Millisecond
	for up := 0; up < b.size && time.Since(began) < patience; {
		if err := errors.Join(wait(ctx, every), fleet.ask("", &up)); err != nil {
			return err
		}
		now, err := requests(ctx, etcd.Address)
		if err != nil {
			return err
		}
		counts = append(counts, now["Txn"]+now["LeaseGrant"])
	}
	most := counts[0]
	for i := 1; i < len(counts); i++ {
		most = max(most, counts[i]-counts[i-1])
	}
	fmt.Printf("When etcd comes back empty, all %d are registered %v later, with %.0f writes in all and at most %.0f a second\n",
		b.size, time.Since(began).Round(100*time.Millisecond), counts[len(counts)-1], most/every.Seconds())
	return errors.Join(fleet.stop(), etcd.Stop())
}

// usedIn returns the CPU time that a server uses in a time.
func usedIn(ctx context.Context, server *measure.Server, length time.Duration) (time.Duration, error) {
	before, err := server.Used()
	if err != nil {
		return 0, err
	}
	if err := wait(ctx, length); err != nil {
		return 0, err
	}
	after, err := server.Used()
	return after.CPU - before.CPU, err
}

// requests counts the messages that etcd has received, by method.
func requests(ctx context.Context, endpoint string) (map[string]float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/metrics", http.NoBody)
	if err != nil {
		return nil, err
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = reply.Body.Close() }()
	out := make(map[string]float64)
	for lines := bufio.NewScanner(io.LimitReader(reply.Body, 16<<20)); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "grpc_server_msg_received_total{")
		if !ok {
			continue
		}
		labels, value, _ := strings.Cut(rest, "} ")
		_, method, _ := strings.Cut(labels, `grpc_method="`)
		method, _, _ = strings.Cut(method, `"`)
		count, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, err
		}
		out[method] += count
	}
	return out, nil
}

func wait(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
