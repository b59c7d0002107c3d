package server

import (
	"fmt"
	"os"
	"time"
)

// platforms are those that kill a process some time after they have asked it to end. Each
// sets a variable in the environment of a process, and has a default of that time, which a
// process cannot read.
var platforms = []struct {
	variable, name, setting string
	grace                   time.Duration
}{
	{"KUBERNETES_SERVICE_HOST", "Kubernetes", "terminationGracePeriodSeconds", 30 * time.Second},
	{"INVOCATION_ID", "systemd", "TimeoutStopSec", 90 * time.Second},
}

// checkShutdown returns an error if the times of a shutdown do not fit into each other. It
// logs a warning if they exceed the platform's default.
func (o Options) checkShutdown() error {
	if o.LameDuck > o.ShutdownTimeout/2 {
		return fmt.Errorf("option LameDuck: %v is more than half of the ShutdownTimeout, %v: calls under way need the rest to end; raise the ShutdownTimeout", o.LameDuck, o.ShutdownTimeout)
	}
	if o.TerminationGrace > 0 {
		if o.ShutdownTimeout >= o.TerminationGrace {
			return fmt.Errorf("option ShutdownTimeout: %v is not less than the TerminationGracePeriod, %v: the process would be killed before its calls have ended; "+
				"lower the one, or raise the other here and on the platform", o.ShutdownTimeout, o.TerminationGrace)
		}
		return nil
	}
	for _, platform := range platforms {
		if os.Getenv(platform.variable) != "" && o.ShutdownTimeout >= platform.grace {
			o.Log.Warn("the shutdown timeout is not less than the time after which "+platform.name+" kills a process by default: set "+platform.setting+
				" to more, and the option TerminationGracePeriod to the same", "shutdown_timeout", o.ShutdownTimeout, "default", platform.grace)
		}
	}
	return nil
}
