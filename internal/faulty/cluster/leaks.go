package cluster

import (
	"runtime"
	"strings"
	"time"

	"go.uber.org/goleak"
)

// leaveTime is how long closed members may take to close the connections of their
// peers: etcd reads from those with a timeout of 5 s.
const leaveTime = 15 * time.Second

// Leaks returns an error that names the goroutines that remain after all tests, for
// TestMain. It waits some seconds for those of closed members. It ignores those of
// toxiproxy: if a connection ends while data are in transit, toxiproxy leaks
// goroutines that send to a channel without a reader.
func Leaks() error { return leaksAfter(leaveTime) }

func leaksAfter(wait time.Duration) error {
	for end := time.Now().Add(wait); ; {
		err := goleak.Find(
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2/toxics.(*ToxicStub).Run"),
			goleak.IgnoreAnyFunction("github.com/Shopify/toxiproxy/v2.(*ToxicLink).read"),
		)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// Goroutines returns the number of the process's goroutines without toxiproxy's.
func Goroutines() int {
	stacks := make([]byte, 1<<20)
	for {
		length := runtime.Stack(stacks, true)
		if length < len(stacks) {
			stacks = stacks[:length]
			break
		}
		stacks = make([]byte, 2*len(stacks))
	}
	count := 0
	for stack := range strings.SplitSeq(string(stacks), "\n\n") {
		if !strings.Contains(stack, "\ngithub.com/Shopify/toxiproxy/") {
			count++
		}
	}
	return count
}
