package etcdclient_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/onecall-dev/onecall/internal/etcdclient"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/grpctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// silent returns a connection to a listener that never answers. If there is a user, the
// constructor of etcd's client waits for a token.
func silent(t *testing.T, user string) (conn *etcdclient.Connection, end context.CancelFunc) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	config, wrong := etcdclient.Config{Endpoints: []string{"http://" + listener.Addr().String()}, Username: user, Password: user}.WithDefaults()
	if wrong != nil {
		t.Fatal(wrong)
	}
	life, end := context.WithCancel(context.Background())
	conn = etcdclient.New(life, config)
	t.Cleanup(func() {
		end()
		conn.Close()
	})
	return conn, end
}

func TestReadyReturnsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"", "root"} {
		t.Run("user "+user, func(t *testing.T) {
			t.Parallel()
			conn, _ := silent(t, user)
			start := time.Now()
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
					defer cancel()
					if client, err := conn.Ready(ctx); client != nil || err == nil {
						t.Errorf("Ready = %v, %v; want an error", client, err)
					}
				})
			}
			all.Wait()
			if took := time.Since(start); took > eventually.AtOnce {
				t.Errorf("waited %v for a silent etcd, want 100 ms", took)
			}
		})
	}
}

func TestCloseEndsEveryCallThatWaits(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"", "root"} {
		t.Run("user "+user, func(t *testing.T) {
			t.Parallel()
			conn, end := silent(t, user)
			var waiting sync.WaitGroup
			begun := make(chan struct{})
			for range 8 {
				waiting.Go(func() {
					begun <- struct{}{}
					if client, err := conn.Ready(context.Background()); client != nil || err == nil {
						t.Errorf("Ready = %v, %v; want an error", client, err)
					}
				})
			}
			for range 8 { // each of them has begun, and may wait or not
				<-begun
			}
			eventually.Returns(t, "closing", func() {
				end()
				conn.Close()
				conn.Close()
				waiting.Wait()
			})
			if client, err := conn.Get(t.Context()); client != nil || err == nil {
				t.Errorf("Get after Close = %v, %v; want an error", client, err)
			}
		})
	}
}

func TestAConnectionIsMadeBeforeItIsUsed(t *testing.T) {
	t.Parallel()
	address, accepted := grpctest.Accepts(t)
	config, wrong := etcdclient.Config{Endpoints: []string{"http://" + address.String()}}.WithDefaults()
	if wrong != nil {
		t.Fatal(wrong)
	}
	life, end := context.WithCancel(context.Background())
	conn := etcdclient.New(life, config)
	conn.Begin()
	eventually.Receive(t, "a connection", accepted)
	eventually.Returns(t, "closing", func() {
		end()
		conn.Close()
	})
}

// TestABeginEndsWithItsConnection also has a constructor that waits for a token.
func TestABeginEndsWithItsConnection(t *testing.T) {
	t.Parallel()
	for _, user := range []string{"", "root"} {
		t.Run("user "+user, func(t *testing.T) {
			t.Parallel()
			conn, end := silent(t, user)
			conn.Begin()
			eventually.Returns(t, "closing", func() {
				end()
				conn.Close()
			})
		})
	}
}
