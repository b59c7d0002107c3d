package etcd_test

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"

	"github.com/onecall-dev/onecall/discovery/etcd"
)

// TestAnEtcdThatCannotBeReachedSaysWhatToLookAt has endpoints that are wrong in
// different ways.
func TestAnEtcdThatCannotBeReachedSaysWhatToLookAt(t *testing.T) {
	t.Parallel()
	authority := newAuthority(t)
	secure := &tls.Config{Certificates: []tls.Certificate{authority.issue(t, "127.0.0.1")}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
	overTLS, _ := tlsFront(t, shared, secure)
	named := secure.Clone()
	named.Certificates = []tls.Certificate{authority.issue(t, "etcd.example.com")}
	otherName, _ := tlsFront(t, shared, named)
	demanding := secure.Clone()
	demanding.ClientAuth, demanding.ClientCAs = tls.RequireAndVerifyClientCert, authority.pool
	withClients, _ := tlsFront(t, shared, demanding)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = silent.Close() })
	trusting := &tls.Config{RootCAs: authority.pool, MinVersion: tls.VersionTLS13}
	for name, test := range map[string]struct {
		config etcd.Config
		want   string
	}{
		"http where etcd has https":    {etcd.Config{Endpoints: []string{strings.Replace(overTLS, "https:", "http:", 1)}}, "does etcd speak https here"},
		"https where etcd has http":    {etcd.Config{Endpoints: []string{strings.Replace(shared.Endpoints()[0], "http:", "https:", 1)}}, "does etcd speak http here"},
		"nobody listens":               {etcd.Config{Endpoints: []string{"http://127.0.0.1:1"}}, "is etcd running, and is this its client port?"},
		"a port that says nothing":     {etcd.Config{Endpoints: []string{"http://" + silent.Addr().String()}}, "nothing answers: check host and port"},
		"an authority that is unknown": {etcd.Config{Endpoints: []string{overTLS}}, "set CAFile"},
		"another name":                 {etcd.Config{Endpoints: []string{otherName}, TLS: trusting}, "write the endpoint with a host that etcd's certificate names"},
		"no certificate of a client's": {etcd.Config{Endpoints: []string{withClients}, TLS: trusting}, "set CertFile and KeyFile"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantUnreachable(t, openWith(t, test.config), test.want)
		})
	}
}
