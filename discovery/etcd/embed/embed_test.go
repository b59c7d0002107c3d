package embed_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/onecall-dev/onecall/discovery/etcd/embed"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, config embed.Config) *embed.Server {
	t.Helper()
	server, err := embed.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return server
}

func client(t *testing.T, server *embed.Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: server.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestServersStartSideBySideAndLeaveNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	first, second := start(t, embed.Config{}), start(t, embed.Config{})
	for _, server := range []*embed.Server{first, second} {
		if _, err := client(t, server).Put(t.Context(), "key", "value"); err != nil {
			t.Fatal(err)
		}
	}
	endpoint := strings.TrimPrefix(first.Endpoints()[0], "http://")
	for range 2 {
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if conn, err := net.DialTimeout("tcp", endpoint, time.Second); err == nil {
		conn.Close()
		t.Errorf("the port of a closed server still answers at %s", endpoint)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) != 0 {
		t.Errorf("closed servers left %v in the temporary folder (%v)", left, err)
	}
}

func TestDataInAFolderOfItsOwnStays(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	first := start(t, embed.Config{Dir: dir})
	if _, err := client(t, first).Put(t.Context(), "key", "value"); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := client(t, start(t, embed.Config{Dir: dir})).Get(t.Context(), "key")
	if err != nil || got.Count != 1 {
		t.Errorf("after a restart there are %v keys (%v), want the one", got, err)
	}
}

func TestBadConfigurationsAreErrors(t *testing.T) {
	taken := strings.TrimPrefix(start(t, embed.Config{}).Endpoints()[0], "http://")
	for want, config := range map[string]embed.Config{
		"Config.Listen":          {Listen: "127.0.0.1"},
		"Config.ListenPeers":     {ListenPeers: "x:y:z"},
		"address already in use": {Listen: taken},
	} {
		t.Run(want, func(t *testing.T) {
			server, err := embed.Start(t.Context(), config)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("Start(%+v) = %v, want an error that says %q", config, err, want)
			}
			if server != nil {
				server.Close()
			}
		})
	}
}
