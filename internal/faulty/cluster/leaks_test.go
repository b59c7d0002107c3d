package cluster

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

// TestLeaksReportsOursAndIgnoresToxiproxys makes toxiproxy leak goroutines, and then
// leaks one of its own.
func TestLeaksReportsOursAndIgnoresToxiproxys(t *testing.T) {
	chatty, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			connection, err := chatty.Accept()
			if err != nil {
				return
			}
			go func() {
				for err == nil {
					_, err = connection.Write(make([]byte, 1024))
				}
			}()
		}
	}()
	leaks := false
	for range 100 { // whether data are in transit when a connection ends is chance
		endChatting(t, chatty.Addr().String())
		if err := goleak.Find(); err != nil && strings.Contains(err.Error(), "toxiproxy") {
			leaks = true
			break
		}
	}
	_ = chatty.Close()
	if !leaks {
		t.Fatal("toxiproxy leaves nothing any more: Leaks need not overlook it")
	}
	if err := leaksAfter(5 * time.Second); err != nil {
		t.Error(err)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() { <-stop }()
	if err := leaksAfter(0); err == nil || !strings.Contains(err.Error(), "TestLeaksReportsOurs") {
		t.Errorf("Leaks = %v, want the goroutine of this test", err)
	}
}

// endChatting ends a proxy whose connections have data in transit.
func endChatting(t *testing.T, address string) {
	t.Helper()
	proxies := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	m := &Member{tb: t, proxy: toxiproxy.NewProxy(proxies, "chatty", "127.0.0.1:0", address)}
	if err := m.proxy.Start(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		connection, err := net.Dial("tcp", m.proxy.Listen)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, connection) }()
	}
	m.Silence()
	m.Speak()
	m.proxy.Stop()
}
