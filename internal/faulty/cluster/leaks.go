package cluster

import (
	"runtime"
	"strings"
	"time"

	"go.uber.org/goleak"
)

// leaveTime is how long members may take to let their peers' connections go after
// they were closed: etcd reads from them with a timeout of 5 s.
const leaveTime = 15 * time.Second

// Leaks returns an error with the goroutines that are left when all tests have ended, for TestMain; it
// waits for those that members leave for some seconds. Those of toxiproxy don't
// count: of a connection that ends with data on the way it leaves goroutines for
// ever, in a send to a channel that is no longer read.
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

// Goroutines counts the process's, without toxiproxy's.
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
