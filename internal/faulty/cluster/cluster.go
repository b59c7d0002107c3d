// Package cluster runs real etcd members for tests, each behind a TCP proxy
// that can be cut or made silent.
package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/internal/fixedport"
)

// startLimit is how long members may take until they answer.
const startLimit = 30 * time.Second

// Cluster is an etcd cluster. A test uses it from one goroutine.
type Cluster struct {
	tb      testing.TB
	members []*Member
}

// Member is one member of a cluster.
type Member struct {
	tb     testing.TB
	config embed.Config
	server *embed.Server // nil while it is stopped
	proxy  *toxiproxy.Proxy
	cut    bool // by Stop, until the next Start
}

// Start starts a cluster with a number of members. The end of the test stops it.
func Start(tb testing.TB, members int) *Cluster {
	tb.Helper()
	c := &Cluster{tb: tb}
	dir := tb.TempDir()
	peers := make(map[string]string)
	for i := range members {
		peers[name(i)] = fixedport.Address(tb)
	}
	proxies := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	for i := range members {
		m := &Member{tb: tb, config: embed.Config{
			Listen: fixedport.Address(tb), ListenPeers: peers[name(i)], Name: name(i), Members: peers, Dir: filepath.Join(dir, name(i)),
		}}
		m.proxy = toxiproxy.NewProxy(proxies, name(i), fixedport.Address(tb), m.config.Listen)
		if err := m.proxy.Start(); err != nil {
			tb.Fatal(err)
		}
		c.members = append(c.members, m)
	}
	tb.Cleanup(func() {
		for _, m := range c.members {
			m.proxy.Stop()
			m.Stop()
		}
	})
	var starting sync.WaitGroup
	for _, m := range c.members {
		starting.Go(m.Start)
	}
	starting.Wait()
	if tb.Failed() {
		tb.FailNow()
	}
	return c
}

func name(i int) string { return fmt.Sprintf("member%d", i) }

// Endpoints returns the addresses of the members' proxies.
func (c *Cluster) Endpoints() []string {
	endpoints := make([]string, len(c.members))
	for i, m := range c.members {
		endpoints[i] = "http://" + m.proxy.Listen
	}
	return endpoints
}

// Member returns the member with an index, from 0.
func (c *Cluster) Member(i int) *Member { return c.members[i] }

// Leader returns the member that is the leader, and waits until there is one.
func (c *Cluster) Leader() *Member {
	c.tb.Helper()
	direct := c.Direct()
	for end := time.Now().Add(startLimit); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for _, m := range c.members {
			if m.server == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(c.tb.Context(), time.Second)
			status, err := direct.Status(ctx, "http://"+m.config.Listen)
			cancel()
			if err == nil && status.Leader == status.Header.GetMemberId() {
				return m
			}
		}
	}
	c.tb.Fatal("the cluster has no leader")
	return nil
}

// Direct returns etcd's own client, connected to the members without the proxies. The
// end of the test closes it.
func (c *Cluster) Direct() *clientv3.Client {
	c.tb.Helper()
	endpoints := make([]string, len(c.members))
	for i, m := range c.members {
		endpoints[i] = "http://" + m.config.Listen
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop()})
	if err != nil {
		c.tb.Fatal(err)
	}
	c.tb.Cleanup(func() { _ = client.Close() })
	return client
}

// Start starts the member with the data that it had. If Stop stopped it, Start also
// lets clients connect again.
func (m *Member) Start() {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	server, err := embed.Start(ctx, m.config)
	if err != nil {
		m.tb.Errorf("member %s: %v", m.config.Name, err)
		return
	}
	m.server = server
	if m.cut {
		m.cut = false
		m.Heal()
	}
}

// Stop cuts the member's connections and stops it. Its data are kept.
func (m *Member) Stop() {
	m.Cut()
	m.cut = true
	m.Shutdown()
}

// Shutdown stops the member as its operator does: for up to 7 s it still serves its
// open streams, and accepts no new ones. Its data are kept.
func (m *Member) Shutdown() {
	if m.server == nil {
		return
	}
	if err := m.server.Close(); err != nil {
		m.tb.Errorf("member %s: %v", m.config.Name, err)
	}
	m.server = nil
}

// Cut closes the connections to the member and refuses new ones.
func (m *Member) Cut() { m.proxy.Stop() }

// Heal lets clients connect again after Cut.
func (m *Member) Heal() {
	m.tb.Helper()
	if err := m.proxy.Start(); err != nil {
		m.tb.Error(err)
	}
}

// silent is the toxic of the proxy that drops all data of one direction.
const silent = `{"name": "silent", "type": "timeout", "stream": "%s", "toxicity": 1, "attributes": {"timeout": 0}}`

// Silence drops everything that the member sends. It still accepts connections and
// data.
func (m *Member) Silence() {
	m.tb.Helper()
	if _, err := m.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(silent, "downstream"))); err != nil {
		m.tb.Error(err)
	}
}

// Speak ends Silence and closes the connections that were silent.
func (m *Member) Speak() {
	m.tb.Helper()
	if err := m.proxy.Toxics.RemoveToxic(context.Background(), "silent"); err != nil {
		m.tb.Error(err)
	}
}

// Freeze drops everything that is sent to and by the member, for good. Connections
// to it still succeed.
func (m *Member) Freeze() {
	m.tb.Helper()
	m.Silence()
	if _, err := m.proxy.Toxics.AddToxicJson(strings.NewReader(strings.Replace(fmt.Sprintf(silent, "upstream"), `"silent"`, `"deaf"`, 1))); err != nil {
		m.tb.Error(err)
	}
}

// Forget restarts the member without its data, as if from a backup that is older than
// all of them. It is for a cluster with one member.
func (m *Member) Forget() {
	m.tb.Helper()
	m.Stop()
	if err := os.RemoveAll(m.config.Dir); err != nil {
		m.tb.Fatal(err)
	}
	m.Start()
}

// Slow delays each answer of the member; 0 ends the delay.
func (m *Member) Slow(by time.Duration) {
	m.tb.Helper()
	var err error
	if by == 0 {
		err = m.proxy.Toxics.RemoveToxic(context.Background(), "slow")
	} else {
		_, err = m.proxy.Toxics.AddToxicJson(strings.NewReader(fmt.Sprintf(
			`{"name": "slow", "type": "latency", "stream": "downstream", "toxicity": 1, "attributes": {"latency": %d}}`, by.Milliseconds())))
	}
	if err != nil {
		m.tb.Error(err)
	}
}
