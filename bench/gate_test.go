package main

import (
	"context"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/framework"
)

// planted is what the test's call allocates in addition.
var planted *[64]byte

func TestTheGateCountsAPlantedAllocation(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	plain := gated{name: "call", serve: "onecall", call: busCall}
	before, err := plain.count(t.Context(), os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	plain.call = func(bus *framework.Bus) func(context.Context) error {
		call := busCall(bus)
		return func(ctx context.Context) error {
			planted = new([64]byte)
			return call(ctx)
		}
	}
	after, err := plain.count(t.Context(), os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if after.near(before) {
		t.Errorf("with an allocation more, the figures are the same: %+v", after)
	}
	if more := after.CallerAllocations - before.CallerAllocations; math.Abs(more-1) > slack {
		t.Errorf("the planted allocation counts as %v", more)
	}
}

func TestTheGateRefusesOtherFiguresThanTheCommittedOnes(t *testing.T) {
	committed := costs{CPU: 1.1, PerCall: make(map[string]allocated)}
	for i, way := range gatedWays() {
		committed.PerCall[way.name] = allocated{100 + float64(i), 70, 6000, 5000}
	}
	if err := committed.check(io.Discard, committed); err != nil {
		t.Fatalf("the committed figures themselves: %v", err)
	}
	for name, test := range map[string]struct {
		change  func(*allocated)
		cpu     float64
		refused bool
	}{
		"noise":                  {func(a *allocated) { a.CallerAllocations += 0.1; a.ServerBytes += 10 }, 1.2, false},
		"one more at the caller": {func(a *allocated) { a.CallerAllocations++ }, 1.1, true},
		"one more at the server": {func(a *allocated) { a.ServerAllocations++ }, 1.1, true},
		"one less":               {func(a *allocated) { a.ServerAllocations-- }, 1.1, true},
		"larger at the caller":   {func(a *allocated) { a.CallerBytes += 64 }, 1.1, true},
		"larger at the server":   {func(a *allocated) { a.ServerBytes += 64 }, 1.1, true},
		"more CPU":               {func(*allocated) {}, 1.3, true},
		"less CPU":               {func(*allocated) {}, 0.9, false},
	} {
		for _, way := range gatedWays() {
			t.Run(name+", "+way.name, func(t *testing.T) {
				found := costs{CPU: test.cpu, PerCall: maps.Clone(committed.PerCall)}
				changed := found.PerCall[way.name]
				test.change(&changed)
				found.PerCall[way.name] = changed
				if err := found.check(io.Discard, committed); (err != nil) != test.refused {
					t.Errorf("check returns %v", err)
				}
			})
		}
	}
}

func TestCostsAreWrittenAndReadBack(t *testing.T) {
	file := filepath.Join(t.TempDir(), "gate.json")
	if err := (costs{Go: "go1", GRPC: "1", CPU: 1.2345, PerCall: map[string]allocated{"call": {100.04, 70.16, 6000.4, 5000.6}}}).write(file); err != nil {
		t.Fatal(err)
	}
	read, err := readCosts(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := (allocated{100, 70.2, 6000, 5001}); read.PerCall["call"] != want || read.CPU != 1.23 || read.Go != "go1" {
		t.Errorf("read back are %+v", read)
	}
}

func TestEachGatedWayIsMeasured(t *testing.T) {
	ratio, err := ratioOfCPU(t.Context(), os.Args[0], 2, 20*time.Millisecond)
	if err != nil || ratio <= 0 {
		t.Errorf("the ratio of CPU is %v, %v", ratio, err)
	}
	file := filepath.Join(t.TempDir(), "gate.json")
	if err := gate(t.Context(), os.Args[0], file, true, false); err != nil {
		t.Fatal(err)
	}
	if err := gate(t.Context(), os.Args[0], file, false, false); err != nil {
		t.Errorf("the figures that were just written: %v", err)
	}
}
