package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// overload measures the service: first with as many callers as it serves, then with all,
// and then with as many as it serves beside a crowd of connections.
func overload(ctx context.Context, settings settings) (_ *result, err error) {
	out := &result{settings: settings}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	command := exec.CommandContext(ctx, self, "-serve", "127.0.0.1:0", "-most", strconv.Itoa(settings.most), "-work", settings.work.String())
	command.Stderr = os.Stderr
	input, err := command.StdinPipe() // its end ends the service
	if err != nil {
		return nil, err
	}
	output, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := command.Start(); err != nil {
		return nil, err
	}
	lines := json.NewDecoder(output)
	err = func() error {
		var address string
		if err := lines.Decode(&address); err != nil {
			return err
		}
		registry := memory.New()
		// The service's own registry is in its process. Its incarnation is known by its connections.
		if _, err := registry.Register(discovery.Instance{API: apiName, Address: address, Incarnation: discovery.NewIncarnation(), State: discovery.Serving}); err != nil {
			return err
		}
		buses := make([]testv1.PlainServiceClient, settings.buses)
		for i := range buses { // they end with this process
			bus, err := framework.NewBus(registry, framework.Logger(slog.New(slog.DiscardHandler)))
			if err != nil {
				return err
			}
			if err := bus.Ready(ctx, apiName); err != nil {
				return err
			}
			buses[i] = testv1.NewPlainServiceClient(bus)
		}
		out.capacity = call(ctx, buses, settings.most, settings)
		out.overload = call(ctx, buses, settings.callers, settings)
		if out.crowd, err = gather(ctx, address, settings.connections); err != nil {
			return err
		}
		defer out.crowd.leave()
		out.crowded = call(ctx, buses, settings.most, settings)
		return ctx.Err()
	}()
	err = errors.Join(err, input.Close())
	if err == nil {
		err = lines.Decode(&out.service)
	}
	return out, errors.Join(err, command.Wait())
}

// calls are the calls of one measurement.
type calls struct {
	length        time.Duration
	good, refused []time.Duration
	other         []error
	late          int // of good: they ended after the end of the measurement
}

// call has callers call for a time.
func call(ctx context.Context, buses []testv1.PlainServiceClient, callers int, settings settings) calls {
	end := time.Now().Add(settings.length)
	each := make([]calls, callers)
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() { each[caller].run(ctx, buses[caller%len(buses)], end, settings.wait) })
	}
	all.Wait()
	sum := calls{length: settings.length}
	for _, of := range each {
		sum.good = append(sum.good, of.good...)
		sum.refused = append(sum.refused, of.refused...)
		sum.other = append(sum.other, of.other...)
		sum.late += of.late
	}
	slices.Sort(sum.good)
	slices.Sort(sum.refused)
	return sum
}

// run is one caller.
func (c *calls) run(ctx context.Context, client testv1.PlainServiceClient, end time.Time, wait time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil && time.Now().Before(end) {
		began := time.Now()
		_, err := client.Ping(ctx, &testv1.PingRequest{Text: "fifty bytes of a request, as in the other figures"})
		took := time.Since(began)
		switch {
		case err == nil:
			c.good = append(c.good, took)
			if time.Now().After(end) {
				c.late++
			}
			continue
		case framework.OutcomeOf(err) == framework.Refused:
			c.refused = append(c.refused, took)
		case ctx.Err() == nil:
			c.other = append(c.other, err)
		}
		timer.Reset(min(rand.N(wait), time.Until(end)))
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// goodput returns the calls that were served in a second.
func (c *calls) goodput() float64 { return float64(len(c.good)-c.late) / c.length.Seconds() }

// result is the result of a run.
type result struct {
	settings                    settings
	capacity, overload, crowded calls
	crowd                       *crowd
	service                     report
}

const (
	// leastGoodput is the share of the capacity that must be served.
	leastGoodput = 0.8
	// mostOfAHost is how many connections of one host a service serves by default.
	mostOfAHost = 2000
	mebibyte    = 1 << 20
)

// ratio returns the goodput of calls as a share of the capacity.
func (r *result) ratio(of *calls) float64 { return of.goodput() / r.capacity.goodput() }

// err returns what was violated, nil if nothing was.
func (r *result) err() error {
	var errs []error
	for what, of := range map[string]*calls{"among all callers": &r.overload, "beside a crowd of connections": &r.crowded} {
		if ratio := r.ratio(of); !(ratio >= leastGoodput) {
			errs = append(errs, fmt.Errorf("%.0f %% of the capacity was served %s, want %.0f", 100*ratio, what, 100*leastGoodput))
		}
	}
	if others := slices.Concat(r.capacity.other, r.overload.other, r.crowded.other); len(others) > 0 {
		errs = append(errs, fmt.Errorf("%d calls failed otherwise than by being refused, the first with: %w", len(others), others[0]))
	}
	if len(r.overload.refused) == 0 {
		errs = append(errs, errors.New("nothing was proven: no call was refused"))
	} else if refusal, good := quantile(r.overload.refused, 0.5), quantile(r.capacity.good, 0.5); refusal > good {
		errs = append(errs, fmt.Errorf("half of the refusals took more than %v, which is longer than a call (%v)", refusal, good))
	}
	if r.service.Highest > int64(r.settings.most) {
		errs = append(errs, fmt.Errorf("%d handlers ran at once, which is more than %d", r.service.Highest, r.settings.most))
	}
	if served := len(r.capacity.good) + len(r.overload.good) + len(r.crowded.good); r.service.Ran != int64(served) {
		errs = append(errs, fmt.Errorf("%d handlers ran for %d calls that were served", r.service.Ran, served))
	}
	if most := mostOfAHost; r.crowd.answered > most || r.crowd.answered+r.crowd.refused != r.settings.connections {
		errs = append(errs, fmt.Errorf("of %d connections of a host %d were served and %d closed, want %d served at most", r.settings.connections, r.crowd.answered, r.crowd.refused, most))
	}
	if used := r.service.Memory / mebibyte; used > uint64(r.settings.memory) {
		errs = append(errs, fmt.Errorf("the service needed %d MiB, which is more than %d", used, r.settings.memory))
	}
	return errors.Join(errs...)
}

// quantile returns the value below which a share of sorted values is.
func quantile(sorted []time.Duration, share float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

// String returns the result as lines.
func (r *result) String() string {
	var text strings.Builder
	line := func(name, format string, figures ...any) {
		fmt.Fprintf(&text, "%-24s %s\n", name, fmt.Sprintf(format, figures...))
	}
	ms := func(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }
	line("callers", "%d, of which the service serves %d at once, for %v each", r.settings.callers, r.settings.most, r.settings.work)
	line("capacity", "%.0f calls a second, with %d callers", r.capacity.goodput(), r.settings.most)
	line("calls", "%.1f times as many as the capacity", (r.overload.goodput()+float64(len(r.overload.refused))/r.overload.length.Seconds())/r.capacity.goodput())
	line("goodput", "%.0f calls a second: %.0f %% of the capacity", r.overload.goodput(), 100*r.ratio(&r.overload))
	line("a call", "%v in the middle, %v for one in a hundred", ms(quantile(r.overload.good, 0.5)), ms(quantile(r.overload.good, 0.99)))
	line("refused calls", "%.0f a second", float64(len(r.overload.refused))/r.overload.length.Seconds())
	line("a refusal", "%v in the middle, %v for one in a hundred", ms(quantile(r.overload.refused, 0.5)), ms(quantile(r.overload.refused, 0.99)))
	line("attempts that were shed", "%d", r.service.Shed)
	line("other errors", "%d", len(r.overload.other)+len(r.capacity.other)+len(r.crowded.other))
	line("connections", "%d of one host: %d served, %d closed", r.settings.connections, r.crowd.answered, r.crowd.refused)
	line("goodput beside them", "%.0f calls a second: %.0f %% of the capacity", r.crowded.goodput(), 100*r.ratio(&r.crowded))
	line("memory of the service", "%d MiB at most", r.service.Memory/mebibyte)
	return text.String()
}
