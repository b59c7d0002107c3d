package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/onecall-dev/onecall/discovery/etcd"
	"github.com/onecall-dev/onecall/internal/certfiles"
	"github.com/onecall-dev/onecall/internal/etcdclient"
)

// examineLimit is how long each step of the examination may take.
const examineLimit = 10 * time.Second

// client calls use with a client of endpoints of etcd.
func (d *doctor) client(ctx context.Context, endpoints []string, use func(context.Context, *clientv3.Client) error) error {
	config, wrong := etcdclient.Config{
		Endpoints: endpoints, Namespace: d.config.Namespace, CAFile: d.config.CAFile, CertFile: d.config.CertFile, KeyFile: d.config.KeyFile,
		Username: d.config.Username, Password: d.config.Password, Insecure: d.config.Insecure,
	}.WithDefaults()
	if wrong != nil {
		return usage(asFlag(&etcd.ConfigError{Field: wrong.Field, Problem: wrong.Problem}))
	}
	ctx, cancel := context.WithTimeout(ctx, examineLimit)
	defer cancel()
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	conn := etcdclient.New(life, config)
	defer func() {
		end()
		conn.Close()
	}()
	client, err := conn.Ready(ctx)
	if err != nil {
		return err
	}
	if err := use(ctx, client); err != nil {
		return fmt.Errorf("etcd did not answer: %w", err)
	}
	return nil
}

// examineEndpoints checks each endpoint of etcd. It reports whether one can be used.
func (d *doctor) examineEndpoints(ctx context.Context) (usable bool) {
	for _, endpoint := range d.config.Endpoints {
		var status *clientv3.StatusResponse
		err := d.client(ctx, []string{endpoint}, func(ctx context.Context, client *clientv3.Client) (err error) {
			status, err = client.Status(ctx, endpoint)
			return err
		})
		if err != nil {
			d.found("etcd", "etcd at "+endpoint+" cannot be used", remedy(err.Error()), "start etcd there, correct --etcd and its files, or leave the endpoint out")
			continue
		}
		usable = usable || status.Leader != 0
		d.examineStatus(endpoint, status)
		d.examineClock(ctx, endpoint)
		d.examineCertificates(ctx, endpoint)
	}
	d.examineOwnCertificates()
	return usable
}

// examineStatus checks what a member of etcd says about itself.
func (d *doctor) examineStatus(endpoint string, status *clientv3.StatusResponse) {
	member := "the member of etcd at " + endpoint
	if status.Leader == 0 {
		d.found("etcd", member+" has no leader", "without a leader nothing can be read or registered", "start the other members: more than half must run and reach each other")
	}
	const nearlyFull = 0.8
	alarms := strings.Join(status.Errors, ", ")
	switch share := float64(status.DbSizeInUse) / float64(max(status.DbSizeQuota, 1)); {
	case strings.Contains(alarms, "NOSPACE"):
		d.found("space", member+" is out of space", "it accepts no new keys, so no instance can register: "+alarms,
			"compact and defragment etcd, or raise --quota-backend-bytes, then: etcdctl alarm disarm")
	case status.DbSizeQuota > 0 && share > nearlyFull:
		d.found("space", fmt.Sprintf("%s has used %.0f %% of its space", member, share*100),
			fmt.Sprintf("%d of %d bytes are in use; when they are full it accepts no new keys", status.DbSizeInUse, status.DbSizeQuota),
			"compact etcd, or raise --quota-backend-bytes")
	}
	if strings.Contains(alarms, "CORRUPT") {
		d.found("etcd", member+" is corrupt", "its data differs from that of other members: "+alarms, "replace the member: see etcd's documentation on corruption")
	}
}

// maxSkew is how far clocks may be apart. Certificates and times in the output depend on them.
const maxSkew = 5 * time.Second

// examineClock compares the clock here with that of a member of etcd, which says in its
// HTTP responses what time it is.
func (d *doctor) examineClock(ctx context.Context, endpoint string) {
	ctx, cancel := context.WithTimeout(ctx, examineLimit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodHead, endpoint+"/version", http.NoBody)
	if err != nil {
		return
	}
	transport := &http.Transport{TLSClientConfig: d.tlsOfEtcd(false), Proxy: nil}
	defer transport.CloseIdleConnections()
	before := time.Now()
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return // its clock is not known
	}
	_ = response.Body.Close()
	there, err := http.ParseTime(response.Header.Get("Date")) // without the fraction of the second
	if err != nil {
		return
	}
	if skew := skewOf(before, time.Now(), there); skew.Abs() > maxSkew {
		d.found("clock", fmt.Sprintf("the clocks here and of etcd at %s are %v apart", endpoint, skew.Abs().Round(time.Second)),
			"certificates may be refused as expired or not valid yet, and times in logs cannot be compared", "run NTP on both machines")
	}
}

// skewOf returns how much later it is there than here at least. there, in whole seconds, was
// read between before and after.
func skewOf(before, after, there time.Time) time.Duration {
	switch {
	case there.After(after):
		return there.Sub(after)
	case there.Add(time.Second).Before(before):
		return there.Add(time.Second).Sub(before)
	default:
		return 0
	}
}

// tlsOfEtcd returns the configuration for https endpoints. If the files cannot be used,
// which is found elsewhere, it lacks them.
func (d *doctor) tlsOfEtcd(anyCertificate bool) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: anyCertificate} //nolint:gosec // only to look at the certificates
	if content, err := os.ReadFile(d.config.CAFile); err == nil && d.config.CAFile != "" {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(content)
	}
	if d.config.CertFile != "" {
		if pair, err := tls.LoadX509KeyPair(d.config.CertFile, d.config.KeyFile); err == nil {
			config.Certificates = []tls.Certificate{pair}
		}
	}
	return config
}

// examineCertificates checks when the certificates of an https endpoint expire. A chain that
// is not valid has ended the examination of the endpoint before.
func (d *doctor) examineCertificates(ctx context.Context, endpoint string) {
	parsed, err := url.Parse(endpoint)
	if err != nil || parsed.Scheme != "https" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, examineLimit)
	defer cancel()
	conn, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: d.tlsOfEtcd(true)}).DialContext(ctx, "tcp", parsed.Host)
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }() // nothing was written
	if secure, ok := conn.(*tls.Conn); ok {
		d.examineChain("of etcd at "+endpoint, secure.ConnectionState().PeerCertificates)
	}
}

// Certificates are to be renewed 30 days before they expire, or when a quarter of their
// lifetime is left if that is less, as option TLS of a service warns.
const (
	renewBefore   = 30 * 24 * time.Hour
	renewFraction = 4
)

// examineExpiry checks when a certificate expires.
func (d *doctor) examineExpiry(whose string, valid certfiles.Validity) {
	left := time.Until(valid.NotAfter)
	if left > min(renewBefore, valid.NotAfter.Sub(valid.NotBefore)/renewFraction) {
		return
	}
	what := "expires soon"
	if left <= 0 {
		what = "has expired"
	}
	d.found("tls", fmt.Sprintf("the certificate %s %s", whose, what), "it is refused from "+valid.NotAfter.UTC().Format(time.RFC3339)+" on", "renew the certificate")
}

// examineChain checks when the first certificate of a chain expires.
func (d *doctor) examineChain(whose string, chain []*x509.Certificate) {
	if len(chain) == 0 {
		return
	}
	first := slices.MinFunc(chain, func(a, b *x509.Certificate) int { return a.NotAfter.Compare(b.NotAfter) })
	d.examineExpiry(whose, certfiles.Validity{NotBefore: first.NotBefore, NotAfter: first.NotAfter})
}

// examineOwnCertificates checks the certificates in the files for etcd and for instances.
func (d *doctor) examineOwnCertificates() {
	chosen := d.program.tlsOfCalls()
	for _, ca := range []string{d.config.CAFile, chosen.TLSCA} {
		if ca == "" {
			continue
		}
		if pool, err := certfiles.NewPool(ca).Read(); err != nil {
			d.unusableFile(err)
		} else {
			d.examineExpiry("of the authority in "+ca, pool.Validity)
		}
	}
	for _, pair := range [][2]string{{d.config.CertFile, d.config.KeyFile}, {chosen.TLSCert, chosen.TLSKey}} {
		if pair[0] == "" {
			continue
		}
		if found, err := certfiles.NewPair(pair[0], pair[1]).Read(); err != nil {
			d.unusableFile(err)
		} else {
			d.examineExpiry("in "+pair[0], found.Validity)
		}
	}
}

func (d *doctor) unusableFile(err error) {
	d.unusable = true
	d.found("tls", "a file with certificates cannot be used", err.Error(), "give the names of files in PEM that are valid: see onecall --help")
}

// examinePermissions checks what the user may do in etcd. It returns the names of the APIs,
// nil if they may not be read.
func (d *doctor) examinePermissions(ctx context.Context) (apis []string, err error) {
	namespace := d.config.Namespace
	if namespace == "" {
		namespace = etcd.DefaultNamespace
	}
	err = d.client(ctx, d.config.Endpoints, func(ctx context.Context, client *clientv3.Client) error {
		for _, part := range []string{"/apis/", "/schemas/", "/known/"} {
			prefix := namespace + part
			_, err := client.Get(ctx, prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
			if errors.Is(err, rpctypes.ErrPermissionDenied) {
				d.found("permissions", "the user may not read "+prefix, "etcd permits "+d.user()+" no reading of these keys, which callers read: "+err.Error(),
					"etcdctl role grant-permission --prefix ROLE read "+prefix)
				return nil
			}
			if err != nil {
				return err
			}
		}
		known, err := client.Get(ctx, namespace+"/known/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
		apis = []string{}
		for _, kv := range known.Kvs {
			apis = append(apis, strings.TrimPrefix(string(kv.GetKey()), namespace+"/known/"))
		}
		if d.readOnly {
			return nil
		}
		return errors.Join(d.examineWriting(ctx, client, namespace, apis), d.examineLease(ctx, client))
	})
	return apis, err
}

// user names the user.
func (d *doctor) user() string {
	if d.config.Username == "" {
		return "this client"
	}
	return "user " + d.config.Username
}

// examineWriting checks that the user may register an instance of one of the APIs. It writes
// nothing: etcd checks the permissions of a transaction also if its condition is false.
func (d *doctor) examineWriting(ctx context.Context, client *clientv3.Client, namespace string, apis []string) error {
	if len(apis) == 0 {
		apis = []string{"doctor"}
	}
	var denied error
	for _, api := range apis {
		mark := namespace + "/known/" + api
		never := clientv3.Compare(clientv3.CreateRevision(mark), "=", -1)
		_, denied = client.Txn(ctx).If(never).Then(clientv3.OpPut(mark, ""), clientv3.OpPut(namespace+"/apis/"+api+"/x", ""), clientv3.OpPut(namespace+"/schemas/"+api+"/x", "")).Commit()
		if !errors.Is(denied, rpctypes.ErrPermissionDenied) {
			break
		}
	}
	switch {
	case errors.Is(denied, rpctypes.ErrPermissionDenied):
		d.found("permissions", "the user may not register instances", "etcd permits "+d.user()+" no writing of the keys of any API: "+denied.Error(),
			"etcdctl role grant-permission ROLE readwrite for the keys of the API, as docs/discovery.md lists them; or, for a caller: onecall doctor --read-only")
		return nil
	case errors.Is(denied, rpctypes.ErrNoSpace): // found before
		return nil
	default:
		return denied
	}
}

// examineLease has a lease granted, renewed and revoked.
func (d *doctor) examineLease(ctx context.Context, client *clientv3.Client) error {
	const ttl = 10
	granted, err := client.Grant(ctx, ttl)
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return nil // found before
	}
	if err == nil {
		if _, err = client.KeepAliveOnce(ctx, granted.ID); err == nil {
			_, err = client.Revoke(ctx, granted.ID)
		}
	}
	if err != nil {
		return fmt.Errorf("having a lease granted, renewed and revoked: %w", err)
	}
	return nil
}
