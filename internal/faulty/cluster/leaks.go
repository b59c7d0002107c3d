package cluster

import (
	"time"

	"go.uber.org/goleak"
)

// leaveTime is how long members may take to let their peers' connections go after
// they were closed: etcd reads from them with a timeout of 5 s.
const leaveTime = 15 * time.Second

// Leaks tells which goroutines are left when all tests have ended, for TestMain; it
// waits for those that members and proxies leave for some seconds.
func Leaks() error {
	for end := time.Now().Add(leaveTime); ; {
		err := goleak.Find()
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
