package measure

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/onecall-dev/onecall/bench/cputime"
)

// Usage is the CPU time and the allocations of a process since its start.
type Usage struct {
	CPU     time.Duration `json:"cpu"` // user and system
	Mallocs uint64        `json:"mallocs"`
	Bytes   uint64        `json:"bytes"` // allocated
}

// Use returns this process's usage.
func Use() Usage {
	used, err := cputime.Used()
	if err != nil {
		panic(err) // a process can always read its own times
	}
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	return Usage{CPU: used, Mallocs: memory.Mallocs, Bytes: memory.TotalAlloc}
}

// since returns what was used since before.
func (u Usage) since(before Usage) Usage {
	return Usage{CPU: u.CPU - before.CPU, Mallocs: u.Mallocs - before.Mallocs, Bytes: u.Bytes - before.Bytes}
}

// Machine describes the machine of the figures.
func Machine() string {
	model := "unknown CPU"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	versions := ""
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "google.golang.org/grpc" {
				versions = ", grpc-go " + module.Version
			}
		}
	}
	return fmt.Sprintf("%s, %d cores, %s/%s, %s%s", model, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version(), versions)
}
