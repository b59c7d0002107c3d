package resolver_test

import (
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/resolver"

	"github.com/onecall-dev/onecall/discovery"
	onecall "github.com/onecall-dev/onecall/discovery/resolver"
)

// source notifies one observer, and nothing of grpc-go's.
type source struct {
	resolver.ClientConn

	notify func(discovery.Snapshot)
}

func (s *source) Watch(_ string, observer func(discovery.Snapshot)) func() {
	s.notify = observer
	return func() {}
}

func (*source) UpdateState(resolver.State) error { return nil }

// BenchmarkAChange is a change of one instance, from a snapshot to the endpoints.
func BenchmarkAChange(b *testing.B) {
	for _, size := range []int{1, 100, 1000} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			instances := make([]discovery.Instance, size)
			for i := range instances {
				instances[i] = discovery.Instance{
					API: "bench", Address: fmt.Sprintf("10.0.%d.%d:443", i/250, i%250), Incarnation: discovery.NewIncarnation(),
					Service: "bench.v1.BenchService", State: discovery.Serving, Zone: "a",
				}
			}
			slices.SortFunc(instances, func(a, b discovery.Instance) int { return strings.Compare(a.Address, b.Address) })
			target, err := url.Parse(onecall.Target("bench"))
			if err != nil {
				b.Fatal(err)
			}
			s := new(source)
			built, err := onecall.NewBuilder(s, onecall.Config{Logger: slog.New(slog.DiscardHandler)}).Build(resolver.Target{URL: *target}, s, resolver.BuildOptions{})
			if err != nil {
				b.Fatal(err)
			}
			defer built.Close()
			s.notify(discovery.Snapshot{API: "bench", Known: true, Instances: instances})
			versions := [2][]discovery.Instance{slices.Clone(instances), slices.Clone(instances)}
			versions[1][size/2].Version = "v2"
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.notify(discovery.Snapshot{API: "bench", Known: true, Instances: versions[i%2]})
			}
		})
	}
}
