package client

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/metadata"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/internal/contextkey"
)

// onePicker picks one connection.
type onePicker struct {
	conn  balancer.SubConn
	added metadata.MD
}

func (p onePicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{SubConn: p.conn, Metadata: p.added}, nil
}

// unobserved is an observer that does nothing.
type unobserved struct{}

func (unobserved) Observe(any, balancer.SubConnState) {}
func (unobserved) Silent()                            {}
func (unobserved) Refused(error)                      {}

// BenchmarkCaller measures the caller's half of a call: its attempt, the pick that
// binds it, and its end.
func BenchmarkCaller(b *testing.B) {
	for name, incarnation := range map[string]discovery.Incarnation{"identified": discovery.NewIncarnation(), "to a plain server": {}} {
		b.Run(name, func(b *testing.B) {
			channel := NewCaller().NewChannel()
			conn := &boundSubConn{observer: unobserved{}}
			conn.incarnation.Store(&incarnation)
			picker := &binding{child: onePicker{conn: conn}, channel: channel.ID()}
			invoke := func(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				picked, err := picker.Pick(balancer.PickInfo{Ctx: ctx, FullMethodName: method})
				if err != nil {
					return err
				}
				_ = ctx.Value(contextkey.Outgoing)
				picked.Done(balancer.DoneInfo{BytesSent: true})
				return nil
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					attempt := channel.NewAttempt(b.Context(), sentMethod)
					if err := channel.UnaryClientInterceptor(attempt, sentMethod, nil, nil, nil, invoke); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
