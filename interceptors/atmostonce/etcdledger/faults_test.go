package etcdledger_test

import (
	"context"
	"errors"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/etcdledger"
	"github.com/onecall-dev/onecall/interceptors/atmostonce/ledgertest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/grpctest"
	"github.com/onecall-dev/onecall/internal/testlog"
)

// unused is an address where nothing listens.
const unused = "http://127.0.0.1:1"

// silent listens and never says a word.
func silent(t *testing.T) (endpoint string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return "http://" + listener.Addr().String()
}

func TestNothingIsFreshWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	for name, endpoint := range map[string]string{"no process listens": unused, "it accepts and says nothing": silent(t)} {
		for _, user := range []string{"", "root"} {
			t.Run(name+", user "+user, func(t *testing.T) {
				t.Parallel()
				withoutEtcd(t, etcdledger.Config{Endpoints: []string{endpoint}, Username: user, Password: user, Timeout: 600 * time.Millisecond})
			})
		}
	}
}

// withoutEtcd uses a ledger whose etcd is away.
func withoutEtcd(t *testing.T, config etcdledger.Config) {
	t.Helper()
	start := time.Now()
	ledger := open(t, config)
	took := func(most time.Duration) {
		t.Helper()
		if took := time.Since(start); took > most+eventually.AtOnce {
			t.Errorf("it took %v, want %v at most", took, most)
		}
		start = time.Now()
	}
	took(0)

	err := ledgertest.WantError(t.Context(), t, ledger, ledgertest.Key())
	if err == nil || !strings.Contains(err.Error(), "etcd at "+config.Endpoints[0]) {
		t.Errorf("Begin = %v, which does not name the endpoint", err)
	}
	took(config.Timeout)

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_ = ledgertest.WantError(short, t, ledger, ledgertest.Key())
	took(50 * time.Millisecond)

	var all sync.WaitGroup
	for range 8 {
		all.Go(func() { _ = ledgertest.WantError(t.Context(), t, ledger, ledgertest.Key()) })
	}
	all.Wait()
	took(config.Timeout)

	all.Go(func() { _ = ledgertest.WantError(t.Context(), t, ledger, ledgertest.Key()) })
	if err := ledger.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	took(50 * time.Millisecond)
}

// keyText is what a key looks like.
var keyText = regexp.MustCompile(`[A-Za-z0-9_-]{43}`)

// A call that was taken before etcd went stays taken when it is back, and
// whatever happens in between, a call is fresh only once.
func TestEtcdMayGoAndComeBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first, err := embed.Start(t.Context(), embed.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	endpoint := first.Endpoints()[0]
	var log testlog.Log
	config := etcdledger.Config{
		Endpoints: []string{endpoint}, Namespace: newNamespace(), Timeout: eventually.AtOnce, Logger: log.Logger(),
	}
	here, elsewhere := open(t, config), open(t, config)
	before := ledgertest.Key()
	ledgertest.Want(t, here, before, true)

	// Copies of calls arrive all the while.
	var fresh, failed atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch ran, errs := twice(t.Context(), here, elsewhere); {
				case ran > 1:
					t.Errorf("a call was fresh %d times", ran)
				default:
					fresh.Add(int64(ran))
					failed.Add(int64(errs))
				}
			}
		})
	}
	eventually.True(t, "calls are fresh", func() bool { return fresh.Load() > 100 })
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually.True(t, "calls fail", func() bool { return failed.Load() > 100 })
	_ = ledgertest.WantError(t.Context(), t, elsewhere, before)
	second, err := embed.Start(t.Context(), embed.Config{Dir: dir, Listen: strings.TrimPrefix(endpoint, "http://")})
	if err != nil {
		t.Fatal(err)
	}
	counted := fresh.Load()
	eventually.True(t, "calls are fresh again", func() bool { return fresh.Load() > counted+100 })
	close(stop)
	all.Wait()
	ledgertest.Want(t, elsewhere, before, false)
	ledgertest.Want(t, here, ledgertest.Key(), true)
	if line := log.String(); !strings.Contains(line, "ledger is unavailable") || !strings.Contains(line, "is available again") || keyText.MatchString(line) {
		t.Errorf("the log is %q, want the outage and its end, and no key", line)
	}
	_, _ = here.Close(), elsewhere.Close()
	if err := second.Close(); err != nil {
		t.Error(err)
	}
}

// twice lets two copies of a new call arrive at once.
func twice(ctx context.Context, here, elsewhere *etcdledger.Ledger) (fresh, failed int) {
	key := ledgertest.Key()
	var one, other struct {
		fresh bool
		err   error
	}
	var both sync.WaitGroup
	both.Go(func() { one.fresh, one.err = here.Begin(ctx, key) })
	both.Go(func() { other.fresh, other.err = elsewhere.Begin(ctx, key) })
	both.Wait()
	for _, answer := range []struct {
		fresh bool
		err   error
	}{one, other} {
		if answer.fresh {
			fresh++
		}
		if answer.err != nil {
			failed++
		}
	}
	return fresh, failed
}

// losesReplies is a server in front of an etcd that answers with errors to
// transactions that were applied.
type losesReplies struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer

	etcd *clientv3.Client
	// errors are what the next transactions are answered with.
	errors chan error
	// applied counts transactions.
	applied atomic.Int64
}

func (l *losesReplies) Txn(ctx context.Context, request *pb.TxnRequest) (*pb.TxnResponse, error) {
	reply, err := pb.NewKVClient(l.etcd.ActiveConnection()).Txn(ctx, request)
	if err != nil {
		return nil, err
	}
	l.applied.Add(1)
	select {
	case err := <-l.errors:
		return nil, err
	default:
		return reply, nil
	}
}

func (l *losesReplies) LeaseGrant(ctx context.Context, request *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return pb.NewLeaseClient(l.etcd.ActiveConnection()).LeaseGrant(ctx, request)
}

// serve answers until the test ends.
func (l *losesReplies) serve(t *testing.T) (endpoint string) {
	t.Helper()
	server := grpc.NewServer()
	pb.RegisterKVServer(server, l)
	pb.RegisterLeaseServer(server, l)
	return "http://" + grpctest.Loopback(t, server)
}

func TestAReplyThatIsLostNeverMakesACallFreshTwice(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		lost    []error
		applied int64
		fresh   bool
	}{
		// etcd's client takes such an answer for one that its own bound made,
		// and sends the transaction again: then the key is one's own.
		"sent again by etcd's client":  {[]error{status.Error(codes.DeadlineExceeded, "lost")}, 2, true},
		"sent again, and again":        {[]error{status.Error(codes.Canceled, "lost"), status.Error(codes.DeadlineExceeded, "lost")}, 3, true},
		"not sent again":               {[]error{status.Error(codes.Unavailable, "lost")}, 1, false},
		"sent again, then not":         {[]error{status.Error(codes.Canceled, "lost"), status.Error(codes.Unavailable, "lost")}, 2, false},
		"with an error that is unlike": {[]error{status.Error(codes.Unknown, "lost")}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			front := &losesReplies{etcd: client(t, shared), errors: make(chan error, len(test.lost))}
			config := etcdledger.Config{Endpoints: []string{front.serve(t)}, Namespace: newNamespace()}
			ledger, key := open(t, config), ledgertest.Key()
			for _, err := range test.lost {
				front.errors <- err
			}
			if test.fresh {
				ledgertest.Want(t, ledger, key, true)
			} else {
				_ = ledgertest.WantError(t.Context(), t, ledger, key)
			}
			if got := front.applied.Load(); got != test.applied {
				t.Errorf("the transaction was sent %d times, want %d", got, test.applied)
			}
			ledgertest.Want(t, ledger, key, false)
			config.Endpoints = shared.Endpoints()
			ledgertest.Want(t, open(t, config), key, false)
		})
	}
}

func TestAUserNeedsTheLedgersKeysAlone(t *testing.T) {
	t.Parallel()
	server, err := embed.Start(t.Context(), embed.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	direct, ctx := client(t, server), t.Context()
	const namespace = "shop/onecall"
	end := clientv3.GetPrefixRangeEnd(namespace + "/ledger/")
	_, err1 := direct.RoleAdd(ctx, "root")
	_, err2 := direct.UserAdd(ctx, "root", "pw")
	_, err3 := direct.UserGrantRole(ctx, "root", "root")
	_, err4 := direct.RoleAdd(ctx, "ledger")
	_, err5 := direct.RoleGrantPermission(ctx, "ledger", namespace+"/ledger/", end, clientv3.PermissionType(clientv3.PermReadWrite))
	_, err6 := direct.UserAdd(ctx, "instance", "pw")
	_, err7 := direct.UserGrantRole(ctx, "instance", "ledger")
	_, err8 := direct.AuthEnable(ctx)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8); err != nil {
		t.Fatal(err)
	}
	config := etcdledger.Config{Endpoints: server.Endpoints(), Namespace: namespace, Username: "instance", Password: "pw", Timeout: 10 * time.Second}
	ledger, key := open(t, config), ledgertest.Key()
	ledgertest.Want(t, ledger, key, true)
	ledgertest.Want(t, ledger, key, false)

	for reason, change := range map[string]func(*etcdledger.Config){
		"authentication failed": func(c *etcdledger.Config) { c.Password = "wrong" },
		"user name is empty":    func(c *etcdledger.Config) { c.Username, c.Password = "", "" },
		"permission denied":     func(c *etcdledger.Config) { c.Namespace = "shop" },
	} {
		t.Run(reason, func(t *testing.T) {
			config := config
			change(&config)
			if err := ledgertest.WantError(ctx, t, open(t, config), key); err == nil || !strings.Contains(err.Error(), reason) {
				t.Errorf("Begin = %v, want an error that says %q", err, reason)
			}
		})
	}
}
