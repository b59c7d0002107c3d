package framework_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"github.com/onecall-dev/onecall/discovery/memory"
	"github.com/onecall-dev/onecall/framework"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// BenchmarkStreamWindow measures how fast a service streams over networks of several round
// trip times, with the default and with windows that grpc-go measures.
func BenchmarkStreamWindow(b *testing.B) {
	const messages = 512
	text := strings.Repeat("x", 64<<10)
	proxies := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	for _, trip := range []time.Duration{0, 2 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond} {
		for name, options := range map[string][]framework.Option{"default": nil, "measured": {framework.StreamWindow(0)}} {
			b.Run(fmt.Sprintf("%s/%v", name, trip), func(b *testing.B) {
				listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
				if err != nil {
					b.Fatal(err)
				}
				proxy := toxiproxy.NewProxy(proxies, b.Name(), "127.0.0.1:0", listener.Addr().String())
				if err := proxy.Start(); err != nil {
					b.Fatal(err)
				}
				defer proxy.Stop()
				for _, direction := range []string{"upstream", "downstream"} {
					toxic := fmt.Sprintf(`{"name": %q, "type": "latency", "stream": %q, "toxicity": 1, "attributes": {"latency": %d}}`, direction, direction, trip.Milliseconds()/2)
					if _, err := proxy.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
						b.Fatal(err)
					}
				}
				serving, calling := []framework.ServeOption{framework.Listener(listener), framework.AdvertiseAs(proxy.Listen)}, []framework.BusOption{}
				for _, option := range options {
					serving, calling = append(serving, option), append(calling, option)
				}
				registry := memory.New()
				serveAny(b, registry, (&echo{}).register, serving...)
				bus := newBusOf(b, registry, calling...)
				ready(b, bus, "test.echo")
				b.SetBytes(messages * int64(len(text)))
				for b.Loop() {
					stream, err := testv1.NewEchoServiceClient(bus).Watch(b.Context(), &testv1.WatchRequest{Text: text, Count: messages})
					for err == nil {
						_, err = stream.Recv()
					}
					if !errors.Is(err, io.EOF) {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
