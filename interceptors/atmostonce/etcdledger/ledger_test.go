package etcdledger_test

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/interceptors/atmostonce"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/etcdledger"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/ledgertest"
	"github.com/onecall-dev/onecall/internal/eventually"
)

// shared is the etcd of all tests that leave it alone; each has a namespace of
// its own.
var shared *embed.Server

func TestMain(m *testing.M) {
	os.Exit(func() int {
		server, err := embed.Start(context.Background(), embed.Config{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		shared = server
		code := m.Run()
		if err := server.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		return code
	}())
}

var namespaces atomic.Int64

func newNamespace() string { return fmt.Sprintf("test/%d", namespaces.Add(1)) }

// open opens a ledger for the length of the test.
func open(tb testing.TB, config etcdledger.Config) *etcdledger.Ledger {
	tb.Helper()
	config.Timeout = cmp.Or(config.Timeout, time.Minute) // which no test reaches
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	ledger, err := etcdledger.Open(config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := ledger.Close(); err != nil {
			tb.Error(err)
		}
	})
	return ledger
}

// client is etcd's own, to look behind the ledger's back.
func client(t *testing.T, server *embed.Server) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: server.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// entry reads a call's key and value.
func entry(t *testing.T, client *clientv3.Client, namespace, key string) *mvccpb.KeyValue {
	t.Helper()
	reply, err := client.Get(t.Context(), namespace+"/ledger/"+key)
	if err != nil {
		t.Fatal(err)
	}
	if len(reply.Kvs) != 1 {
		return nil
	}
	return reply.Kvs[0]
}

func TestLedgerPassesTheSuite(t *testing.T) {
	t.Parallel()
	ledgertest.Run(t, func(t *testing.T) (atmostonce.Ledger, atmostonce.Ledger) {
		t.Helper()
		t.Parallel()
		config := etcdledger.Config{Endpoints: shared.Endpoints(), Namespace: newNamespace()}
		return open(t, config), open(t, config)
	})
}

func TestNamespacesAreApart(t *testing.T) {
	t.Parallel()
	key := ledgertest.Key()
	ledgertest.Want(t, open(t, etcdledger.Config{Endpoints: shared.Endpoints(), Namespace: "apart/a"}), key, true)
	ledgertest.Want(t, open(t, etcdledger.Config{Endpoints: shared.Endpoints(), Namespace: "apart/b"}), key, true)
}

// Every key must have a lease, or etcd fills for ever; and one that lasts, or
// a copy is run.
func TestEveryKeyStaysForTheRetentionAndEndsAfterIt(t *testing.T) {
	t.Parallel()
	const retention = 2 * time.Second
	namespace, direct := newNamespace(), client(t, shared)
	config := etcdledger.Config{Endpoints: shared.Endpoints(), Namespace: namespace, Retention: retention, Timeout: eventually.AtOnce}
	ledgers := []*etcdledger.Ledger{open(t, config), open(t, config)}

	ends := make(map[string]time.Time) // when a key may end
	leases := make(map[int64]bool)
	began := time.Now()
	for i := range 30 {
		key := ledgertest.Key()
		ledgertest.Want(t, ledgers[i%2], key, true)
		ends[key] = time.Now().Add(retention)
		leases[entry(t, direct, namespace, key).GetLease()] = true
		time.Sleep(20 * time.Millisecond) // over some shares of a lease: etcd's clock is the subject
	}
	if leases[0] {
		t.Error("a key has no lease")
	}
	took := time.Since(began) // 0.6 s, unless the machine is busy
	if most := 2*int(took/(retention/10)) + 6; len(leases) < 4 || len(leases) > most {
		t.Errorf("30 calls over %v from two ledgers have %d leases, want from 4 to %d, each for 0.2 s", took, len(leases), most)
	}
	eventually.True(t, "no key outlives its retention", func() bool {
		for key, end := range ends {
			if entry(t, direct, namespace, key) != nil {
				continue
			}
			if now := time.Now(); now.Before(end) {
				t.Fatalf("a key ended %v before its retention", end.Sub(now))
			}
			delete(ends, key)
		}
		return len(ends) == 0
	})
}

func TestADefaultLedgerRemembersForAnHour(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	ledger, key := open(t, etcdledger.Config{Endpoints: shared.Endpoints(), Namespace: namespace}), ledgertest.Key()
	ledgertest.Want(t, ledger, key, true)
	found := entry(t, direct, namespace, key)
	lease, err := direct.TimeToLive(t.Context(), clientv3.LeaseID(found.GetLease()))
	if err != nil || lease.TTL < 3600 || lease.TTL > 4200 {
		t.Errorf("the lease of a key has %+v (%v) left, want an hour and some minutes", lease, err)
	}
}

func TestALeaseRevokedByHandIsReplaced(t *testing.T) {
	t.Parallel()
	namespace, direct := newNamespace(), client(t, shared)
	ledger := open(t, etcdledger.Config{Endpoints: shared.Endpoints(), Namespace: namespace})
	var before int64
	for range 5 {
		key := ledgertest.Key()
		ledgertest.Want(t, ledger, key, true)
		ledgertest.Want(t, ledger, key, false)
		lease := entry(t, direct, namespace, key).GetLease()
		if lease == 0 || lease == before {
			t.Errorf("after lease %x was revoked a key is under %x", before, lease)
		}
		before = lease
		if _, err := direct.Revoke(t.Context(), clientv3.LeaseID(lease)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestClosingALedgerForgetsNothing(t *testing.T) {
	t.Parallel()
	config := etcdledger.Config{Endpoints: shared.Endpoints(), Namespace: newNamespace()}
	ledger, key := open(t, config), ledgertest.Key()
	ledgertest.Want(t, ledger, key, true)
	for range 2 {
		if err := ledger.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	_ = ledgertest.WantError(t.Context(), t, ledger, ledgertest.Key())
	ledgertest.Want(t, open(t, config), key, false)
}

func BenchmarkBegin(b *testing.B) {
	for _, callers := range []int{2, 16, 128} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			ledger := open(b, etcdledger.Config{Endpoints: shared.Endpoints(), Namespace: newNamespace()})
			b.ReportAllocs()
			b.SetParallelism(max(1, callers/runtime.GOMAXPROCS(0)))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if fresh, err := ledger.Begin(b.Context(), ledgertest.Key()); !fresh || err != nil {
						b.Errorf("Begin = %t, %v", fresh, err)
						return
					}
				}
			})
		})
	}
}
