package framework

import (
	"fmt"

	"github.com/onecall-dev/onecall/framework/internal/server"
)

// MaxInFlight sets how many calls of an API a service may have under way: unary calls whose
// request was received, and open streams. apis are the bus names of the APIs that the
// limit is for, such as "auth". Without a name it is for each API that no other MaxInFlight
// names. calls is more than zero. The default is 10,000.
//
// The service sheds a call above the limit: it fails with RESOURCE_EXHAUSTED before its
// handler starts, and its outcome is Refused. A bus retries it, mostly at another instance,
// as [Retry] allows. Set the limit to what the service can do at the same time. Then calls
// above it fail fast, and do not slow down all others.
func MaxInFlight(calls int, apis ...string) ServeOption {
	return serveOption(func(o *server.Options) error {
		if calls < 1 {
			return fmt.Errorf("option MaxInFlight: %d is not more than zero: a service without calls has no use", calls)
		}
		if len(apis) == 0 {
			apis = []string{""}
		}
		for _, api := range apis {
			o.InFlight[api] = calls
		}
		return nil
	})
}
