package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	etcdembed "go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/discovery"
	"github.com/onecall-dev/onecall/discovery/discoverytest"
	"github.com/onecall-dev/onecall/discovery/etcd/embed"
	"github.com/onecall-dev/onecall/framework"
	"github.com/onecall-dev/onecall/internal/certtest"
	"github.com/onecall-dev/onecall/internal/eventually"
	"github.com/onecall-dev/onecall/internal/fixedport"
	"github.com/onecall-dev/onecall/internal/schema"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// finding is a finding of the command doctor.
type finding struct {
	Check   string `json:"check"`
	Finding string `json:"finding"`
	Why     string `json:"why"`
	Remedy  string `json:"remedy"`
}

// examine runs the command doctor, and returns its findings.
func examine(t *testing.T, env []string, args ...string) []finding {
	t.Helper()
	got := runWith(t, env, "", append([]string{"doctor", "-o", "json"}, args...)...)
	var findings []finding
	if err := json.Unmarshal([]byte(got.out), &findings); err != nil {
		t.Fatalf("%v: %+v", err, got)
	}
	if healthy := len(findings) == 0; healthy != (got.code == 0) || got.code > 1 || healthy != (got.errs == "") || strings.Count(got.errs, "\n") > 1 {
		t.Errorf("with %d findings: %+v", len(findings), got)
	}
	for _, each := range findings {
		if each.Check == "" || each.Finding == "" || each.Why == "" || each.Remedy == "" {
			t.Errorf("a finding lacks something: %+v", each)
		}
	}
	return findings
}

// wantFinding compares all findings with one: its check, and parts of its finding and why.
func wantFinding(t *testing.T, got []finding, check, what, why string) {
	t.Helper()
	if len(got) != 1 || got[0].Check != check || !strings.Contains(got[0].Finding, what) || !strings.Contains(got[0].Why, why) {
		t.Errorf("got %+v, want one of %s: %s: %s", got, check, what, why)
	}
}

// direct is etcd's own client, to change what is in etcd.
func direct(t *testing.T, endpoint string) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// put puts a key of a place, under a lease if it is not 0.
func put(t *testing.T, at place, key, value string, lease clientv3.LeaseID) {
	t.Helper()
	if _, err := direct(t, at.endpoint).Put(eventually.Context(t), at.namespace+key, value, clientv3.WithLease(lease)); err != nil {
		t.Fatal(err)
	}
}

// leased returns a lease of a minute.
func leased(t *testing.T, at place) clientv3.LeaseID {
	t.Helper()
	const minute = 60
	granted, err := direct(t, at.endpoint).Grant(eventually.Context(t), minute)
	if err != nil {
		t.Fatal(err)
	}
	return granted.ID
}

// entry is the value of an instance's key.
func entry(address, metadata string) string {
	return fmt.Sprintf(`{"Op":0,"Addr":%q,"Metadata":{"incarnation":%q%s}}`, address, discovery.NewIncarnation(), metadata)
}

// closed returns an address where nothing listens.
func closed(t *testing.T) string {
	t.Helper()
	return strings.TrimPrefix(silent(t).endpoint, "http://")
}

// TestTheDoctorIsSilentWhenAllIsWell examines services that are well.
func TestTheDoctorIsSilentWhenAllIsWell(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := run(t, w.place, "", "doctor"); got != (result{}) {
		t.Errorf("%+v", got)
	}
	if got := run(t, w.place, "", "doctor", "-v"); got.code != 0 || got.out != "" || !strings.HasSuffix(got.errs, "all is well\n") {
		t.Errorf("with -v: %+v", got)
	}
	if got := run(t, newPlace(), "", "doctor"); got != (result{}) {
		t.Errorf("an empty registry: %+v", got)
	}
}

// TestFindingsAreShownForPeople looks at the text of one finding.
func TestFindingsAreShownForPeople(t *testing.T) {
	t.Parallel()
	got := run(t, silent(t), "", "doctor")
	want := "✗ etcd at http://ADDRESS cannot be used\n  why: "
	if !strings.HasPrefix(same(got.out), want) || !strings.Contains(got.out, "\n  do:  ") || got.errs != "onecall: 1 problem (etcd)\n" || got.code != 1 {
		t.Errorf("%+v", got)
	}
}

// scene is a place in a test.
type scene struct {
	*testing.T
	place
}

// TestTheDoctorFindsWrongKeysAndInstances puts keys by hand, each in a namespace of its own.
func TestTheDoctorFindsWrongKeysAndInstances(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		spoil            func(s scene)
		check, what, why string
	}{
		"a malformed key": {
			func(s scene) { put(s.T, s.place, "/apis/auth/x", "no JSON", 0) },
			"keys", "/apis/auth/x is of no use", "not etcd's naming format",
		},
		"descriptors without an instance": {
			func(s scene) { put(s.T, s.place, "/schemas/auth/x", "?", 0) },
			"keys", "/schemas/auth/x is of no use", "belong to no instance",
		},
		"a mark that is no name": {
			func(s scene) { put(s.T, s.place, "/known/a b", "{}", 0) },
			"keys", "/known/a b is of no use", "",
		},
		"a key under no lease": {
			func(s scene) { put(s.T, s.place, "/apis/auth/x", entry(closed(s.T), `,"state":"draining"`), 0) },
			"keys", "/apis/auth/x is under no lease", "also after its process has ended",
		},
		"an address where nothing listens": {
			func(s scene) { put(s.T, s.place, "/apis/auth/x", entry(closed(s.T), ""), leased(s.T, s.place)) },
			"instance", "auth at 127.0.0.1:", "nothing listens there",
		},
		"another process at the address": {
			func(s scene) {
				put(s.T, s.place, "/apis/auth/x", entry(served(s.T, s.place), ""), leased(s.T, s.place))
			},
			"address", "2 processes have the address 127.0.0.1:", "auth, ",
		},
		"two processes at one address": {
			func(s scene) {
				address := served(s.T, s.place)
				serveKinds(s.T, s.place, framework.AdvertiseAs(address))
				discoverytest.Watch(t, open(s.T, s.place), "test.kinds").Until(s.T, "the second", func(discovery.Snapshot) bool { return instanceKeys(s.T, s.place) == 2 })
			},
			"address", "2 processes have the address 127.0.0.1:", "only one of them",
		},
		"a clock that is ahead": {
			func(s scene) {
				started := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
				put(s.T, s.place, "/apis/auth/x", entry(closed(s.T), `,"state":"draining","started":"`+started+`"`), leased(s.T, s.place))
			},
			"clock", "from now", "ahead",
		},
		"a schema that cannot be read": {
			func(s scene) {
				register(s.T, s.place, discovery.Instance{API: "auth", Address: closed(s.T), State: discovery.Draining, Service: "auth.v1.AuthService", Schema: "x", Descriptors: "?"})
			},
			"schema", "the schema of auth at 127.0.0.1:", "",
		},
		"incompatible schemas": {
			func(s scene) {
				served(s.T, s.place)
				instance := without(s.T, "SignIn")
				instance.Address, instance.Started = closed(s.T), time.Now().Add(time.Second)
				register(s.T, s.place, instance)
			},
			"schema", "the instances of test.kinds have incompatible schemas", "test.kinds.sign_in is an RPC here and gone there",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := newPlace()
			test.spoil(scene{t, at})
			wantFinding(t, examine(t, at.env()), test.check, test.what, test.why)
		})
	}
}

// serveKinds serves test.kinds.
func serveKinds(t *testing.T, at place, options ...framework.ServeOption) (stop func()) {
	t.Helper()
	return serve(t, open(t, at), func(apis grpc.ServiceRegistrar) { testv1.RegisterKindsServiceServer(apis, &kinds{}) }, options...)
}

// served serves test.kinds, and returns the address.
func served(t *testing.T, at place, options ...framework.ServeOption) (address string) {
	t.Helper()
	serveKinds(t, at, options...)
	discoverytest.Watch(t, open(t, at), "test.kinds").Until(t, "an instance", func(s discovery.Snapshot) bool {
		if len(s.Instances) > 0 {
			address = s.Instances[0].Address
		}
		return len(s.Instances) > 0
	})
	return address
}

// instanceKeys returns how many instances have a key.
func instanceKeys(t *testing.T, at place) int64 {
	t.Helper()
	reply, err := direct(t, at.endpoint).Get(eventually.Context(t), at.namespace+"/apis/", clientv3.WithPrefix(), clientv3.WithCountOnly())
	if err != nil {
		t.Fatal(err)
	}
	return reply.Count
}

// register registers an instance until the end of the test.
func register(t *testing.T, at place, instance discovery.Instance) {
	t.Helper()
	instance.Incarnation = discovery.NewIncarnation()
	registration, err := open(t, at).Register(instance)
	if err != nil {
		t.Fatal(err)
	}
	if err := discovery.AwaitRegistered(eventually.Context(t), registration); err != nil {
		t.Fatal(err)
	}
}

// without returns an instance with the schema of test.kinds without an RPC. It is draining,
// so it need not be reachable.
func without(t *testing.T, method string) discovery.Instance {
	t.Helper()
	file := protodesc.ToFileDescriptorProto(testv1.File_onecall_test_v1_kinds_proto)
	for _, service := range file.GetService() {
		service.Method = slices.DeleteFunc(service.GetMethod(), func(m *descriptorpb.MethodDescriptorProto) bool { return m.GetName() == method })
	}
	changed, err := protodesc.NewFile(file, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	service := changed.Services().ByName("KindsService")
	digest, err := schema.Digest(service)
	if err != nil {
		t.Fatal(err)
	}
	packed, err := schema.Of(service).Pack()
	if err != nil {
		t.Fatal(err)
	}
	return discovery.Instance{API: "test.kinds", State: discovery.Draining, Service: string(service.FullName()), Schema: digest, Descriptors: packed}
}

// TestNewRPCsAreNoFinding serves an API whose newer instances have one RPC more.
func TestNewRPCsAreNoFinding(t *testing.T) {
	t.Parallel()
	at := newPlace()
	older := without(t, "SignIn")
	older.Address, older.Started = closed(t), time.Now().Add(-time.Hour)
	register(t, at, older)
	served(t, at)
	if got := examine(t, at.env()); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
}

// TestTheDoctorFindsLoopbackAddressesBesideOthers registers an instance of another machine.
func TestTheDoctorFindsLoopbackAddressesBesideOthers(t *testing.T) {
	t.Parallel()
	at := newPlace()
	served(t, at)
	const elsewhere = "192.0.2.1:8443" // of a network for examples
	register(t, at, discovery.Instance{API: "auth", Address: elsewhere, State: discovery.Draining})
	wantFinding(t, examine(t, at.env()), "address", "test.kinds has the loopback address 127.0.0.1:", "its own machine")
}

// TestTheDoctorFindsALeaseThatIsNotRenewed puts an instance under a lease, and lets it be.
func TestTheDoctorFindsALeaseThatIsNotRenewed(t *testing.T) {
	t.Parallel()
	at := newPlace()
	const ttl = 8
	eventually.True(t, "the finding", func() bool {
		if instanceKeys(t, at) == 0 {
			granted, err := direct(t, at.endpoint).Grant(eventually.Context(t), ttl)
			if err != nil {
				t.Fatal(err)
			}
			put(t, at, "/apis/auth/x", entry(closed(t), `,"state":"draining"`), granted.ID)
		}
		got := examine(t, at.env())
		return len(got) == 1 && got[0].Check == "lease" && strings.Contains(got[0].Finding, "the lease of auth at 127.0.0.1:")
	})
}

// TestTheDoctorFindsWhatEtcdSaysOfItself raises alarms, and takes the quorum away.
func TestTheDoctorFindsWhatEtcdSaysOfItself(t *testing.T) {
	t.Parallel()
	t.Run("corrupt", func(t *testing.T) {
		t.Parallel()
		at := ownEtcd(t, nil)
		alarm := &etcdserverpb.AlarmRequest{Action: etcdserverpb.AlarmRequest_ACTIVATE, Alarm: etcdserverpb.AlarmType_CORRUPT}
		if _, err := etcdserverpb.NewMaintenanceClient(direct(t, at.endpoint).ActiveConnection()).Alarm(eventually.Context(t), alarm); err != nil {
			t.Fatal(err)
		}
		got := examine(t, at.env(), "--read-only")
		if len(got) == 0 || got[0].Check != "etcd" || !strings.Contains(got[0].Finding, "is corrupt") {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("space", func(t *testing.T) {
		t.Parallel()
		const quota = 1 << 20
		at := ownEtcd(t, func(config *etcdembed.Config) { config.QuotaBackendBytes = quota })
		client, full := direct(t, at.endpoint), false
		for i := 0; !full; i++ {
			_, err := client.Put(eventually.Context(t), fmt.Sprintf("other/%d", i), strings.Repeat("x", quota/16))
			if full = err != nil; full {
				break
			}
			if i == 13 { //nolint:mnd // 14 sixteenths
				eventually.True(t, "the finding", func() bool {
					got := examine(t, at.env())
					return len(got) == 1 && got[0].Check == "space" && strings.Contains(got[0].Finding, "of its space")
				})
			}
		}
		wantFinding(t, examine(t, at.env()), "space", "is out of space", "NOSPACE")
	})
	t.Run("no leader", func(t *testing.T) {
		t.Parallel()
		members := map[string]string{"a": fixedport.Address(t), "b": fixedport.Address(t)}
		servers := make(chan *embed.Server, len(members))
		for name, peers := range members {
			go func() {
				server, err := embed.Start(eventually.Context(t), embed.Config{Name: name, Members: members, ListenPeers: peers})
				if err != nil {
					t.Error(err)
				}
				servers <- server
			}()
		}
		stays, leaves := <-servers, <-servers
		if stays == nil || leaves == nil {
			t.Fatal("a member has not started")
		}
		defer stays.Close()
		_ = leaves.Close()
		env := place{endpoint: stays.Endpoints()[0]}.env()
		eventually.True(t, "the finding", func() bool {
			// Until the member knows that the other is gone, etcd does not answer.
			got := runWith(t, env, "", "doctor", "-o", "plain")
			return got.code == 1 && strings.HasPrefix(got.out, "etcd\tthe member of etcd at "+stays.Endpoints()[0]+" has no leader\t")
		})
	})
	t.Run("one of two endpoints", func(t *testing.T) {
		t.Parallel()
		at := newPlace()
		got := examine(t, append(at.env(), "ONECALL_ETCD_ENDPOINTS="+at.endpoint+","+silent(t).endpoint))
		wantFinding(t, got, "etcd", "cannot be used", "connection refused")
	})
}

// ownEtcd runs an etcd until the end of the test.
func ownEtcd(t *testing.T, change func(*etcdembed.Config)) place {
	t.Helper()
	config := etcdembed.NewConfig()
	config.BcryptCost = 4 // its lowest
	config.Dir, config.LogLevel, config.LogOutputs = t.TempDir(), "fatal", []string{os.DevNull}
	anyPort := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	config.ListenClientUrls, config.ListenPeerUrls = anyPort, anyPort
	config.AdvertiseClientUrls, config.AdvertisePeerUrls = anyPort, []url.URL{{Scheme: "http", Host: fixedport.Address(t)}}
	config.ListenPeerUrls = config.AdvertisePeerUrls
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	if change != nil {
		change(config)
	}
	server, err := etcdembed.StartEtcd(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	eventually.Receive(t, "etcd", server.Server.ReadyNotify())
	return place{endpoint: config.ListenClientUrls[0].Scheme + "://" + server.Clients[0].Addr().String()}
}

// TestTheDoctorFindsMissingPermissions examines an etcd with users.
func TestTheDoctorFindsMissingPermissions(t *testing.T) {
	t.Parallel()
	at := ownEtcd(t, nil)
	served(t, at)
	client := direct(t, at.endpoint)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for user, kind := range map[string]clientv3.PermissionType{"root": clientv3.PermissionType(clientv3.PermReadWrite), "reader": clientv3.PermissionType(clientv3.PermRead), "nothing": -1} {
		must(client.RoleAdd(t.Context(), user))
		if kind >= 0 {
			must(client.RoleGrantPermission(t.Context(), user, "onecall/", clientv3.GetPrefixRangeEnd("onecall/"), kind))
		}
		must(client.UserAdd(t.Context(), user, "pw"))
		must(client.UserGrantRole(t.Context(), user, user))
	}
	must(client.AuthEnable(t.Context()))
	t.Cleanup(func() { // the service leaves without a user
		if root, err := clientv3.New(clientv3.Config{Endpoints: []string{at.endpoint}, Username: "root", Password: "pw"}); err == nil {
			_, _ = root.AuthDisable(context.Background())
			_ = root.Close()
		}
	})
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("pw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	as := func(user string, args ...string) []finding {
		return examine(t, at.env(), append(args, "--etcd-user", user, "--etcd-password-file", password)...)
	}
	if got := as("root"); len(got) != 0 {
		t.Errorf("root: %+v", got)
	}
	if got := as("reader", "--read-only"); len(got) != 0 {
		t.Errorf("a caller: %+v", got)
	}
	wantFinding(t, as("reader"), "permissions", "the user may not register instances", "user reader")
	wantFinding(t, as("nothing"), "permissions", "the user may not read onecall/apis/", "user nothing")
}

// TestTheDoctorFindsClocksThatDiffer examines an etcd through a proxy that changes the time
// in its HTTP responses.
func TestTheDoctorFindsClocksThatDiffer(t *testing.T) {
	t.Parallel()
	at := newPlace()
	year := time.Now().UTC().Format(" 2006 ")
	front := proxy(t, at.endpoint, func(data []byte) []byte {
		if bytes.Contains(data, []byte("\r\nDate: ")) && bytes.HasPrefix(data, []byte("HTTP/1.1")) {
			return bytes.Replace(data, []byte(year), []byte(" 1999 "), 1)
		}
		return data
	})
	wantFinding(t, examine(t, append(at.env(), "ONECALL_ETCD_ENDPOINTS="+front)), "clock", "the clocks here and of etcd at "+front, "")
	same := proxy(t, at.endpoint, func(data []byte) []byte { return data })
	if got := examine(t, append(at.env(), "ONECALL_ETCD_ENDPOINTS="+same)); len(got) != 0 {
		t.Errorf("with the same clock: %+v", got)
	}
}

// proxy passes connections on, and changes what the server sends.
func proxy(t *testing.T, endpoint string, change func([]byte) []byte) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(endpoint, "http://"))
			if err != nil {
				_ = client.Close()
				return
			}
			go func() {
				_, _ = io.Copy(server, client)
				_ = server.Close()
			}()
			go func() {
				defer client.Close()
				data := make([]byte, 64<<10)
				for {
					n, err := server.Read(data)
					if _, failed := client.Write(change(data[:n])); err != nil || failed != nil {
						return
					}
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String()
}

// TestTheDoctorFindsCertificatesThatExpire examines an etcd and services whose certificates
// are valid, expire soon, or are signed by another authority.
func TestTheDoctorFindsCertificatesThatExpire(t *testing.T) {
	t.Parallel()
	authority := certtest.NewAuthority(t)
	yearAgo, soon := time.Now().AddDate(-1, 0, 0), time.Now().AddDate(0, 0, 20)
	loopback := []net.IP{net.IPv4(127, 0, 0, 1)}
	secure := func(until time.Time) (place, certtest.Files) {
		files, _ := authority.Write(t, certtest.Leaf{IPs: loopback, NotBefore: yearAgo, NotAfter: until})
		at := ownEtcd(t, func(config *etcdembed.Config) {
			config.ListenClientUrls = []url.URL{{Scheme: "https", Host: "127.0.0.1:0"}}
			config.AdvertiseClientUrls = config.ListenClientUrls
			config.ClientTLSInfo = transport.TLSInfo{CertFile: files.Cert, KeyFile: files.Key}
		})
		return at, files
	}
	well, files := secure(time.Time{})
	ends, _ := secure(soon)
	if got := examine(t, well.env(), "--etcd-ca", files.CA); len(got) != 0 {
		t.Errorf("a valid one: %+v", got)
	}
	wantFinding(t, examine(t, ends.env(), "--etcd-ca", files.CA), "tls", "the certificate of etcd at "+ends.endpoint+" expires soon", "")
	wantFinding(t, examine(t, well.env()), "etcd", "cannot be used", "--etcd-ca")
	own, _ := authority.Write(t, certtest.Leaf{NotBefore: yearAgo, NotAfter: soon})
	wantFinding(t, examine(t, well.env(), "--etcd-ca", files.CA, "--etcd-cert", own.Cert, "--etcd-key", own.Key), "tls", "the certificate in "+own.Cert+" expires soon", "")

	for name, until := range map[string]time.Time{"valid": {}, "soon": soon} {
		t.Run(name, func(t *testing.T) {
			at := newPlace()
			server, _ := authority.Write(t, certtest.Leaf{Names: []string{"test.kinds"}, NotBefore: yearAgo, NotAfter: until})
			address := served(t, at, framework.TLS(framework.TLSFiles{CA: server.CA, Cert: server.Cert, Key: server.Key}))
			caller, _ := authority.Write(t, certtest.Leaf{Names: []string{"caller"}})
			flags := []string{"--tls-ca", caller.CA, "--tls-cert", caller.Cert, "--tls-key", caller.Key}
			got := examine(t, at.env(), flags...)
			if until.IsZero() && len(got) != 0 {
				t.Errorf("got %+v", got)
			} else if !until.IsZero() {
				wantFinding(t, got, "tls", "the certificate of the instance at "+address+" expires soon", "")
			}
			wantFinding(t, examine(t, at.env()), "instance", "test.kinds at "+address, "set --tls-ca")
			flags[1] = certtest.In(t.TempDir()).CA
			wantFinding(t, examine(t, at.env(), flags...), "tls", "a file with certificates cannot be used", "no such file")
		})
	}
}
