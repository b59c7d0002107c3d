package client

import (
	"testing"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/discovery"
)

// onePicker picks one connection.
type onePicker struct{ conn balancer.SubConn }

func (p onePicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{SubConn: p.conn}, nil
}

// unobserved is an observer that does nothing.
type unobserved struct{}

func (unobserved) Observe(any, balancer.SubConnState) {}
func (unobserved) Silent()                            {}
func (unobserved) Refused(error)                      {}

// BenchmarkCaller measures the caller's half of a call: its attempt, the pick that
// binds it, what grpc-go does with the metadata of a pick, and its end.
func BenchmarkCaller(b *testing.B) {
	for name, incarnation := range map[string]discovery.Incarnation{"identified": discovery.NewIncarnation(), "to a plain server": {}} {
		b.Run(name, func(b *testing.B) {
			channel := NewCaller().NewChannel()
			conn := &boundSubConn{observer: unobserved{}}
			conn.incarnation.Store(&incarnation)
			picker := &binding{child: onePicker{conn}, channel: channel.ID()}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					attempt := channel.NewAttempt(b.Context(), "/a.B/C")
					picked, err := picker.Pick(balancer.PickInfo{Ctx: attempt, FullMethodName: "/a.B/C"})
					if err != nil {
						b.Error(err)
						return
					}
					if picked.Metadata != nil {
						outgoing, _ := metadata.FromOutgoingContext(attempt)
						_ = metadata.NewOutgoingContext(attempt, metadata.Join(outgoing, picked.Metadata))
					}
					picked.Done(balancer.DoneInfo{BytesSent: true})
				}
			})
		})
	}
}
