package certfiles_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/onecall-dev/onecall/internal/certfiles"
	"github.com/onecall-dev/onecall/internal/certtest"
)

// TestFilesThatCannotBeUsedLeaveTheLastGoodPair replaces the files of a pair by what a
// rotation may leave there for a moment.
func TestFilesThatCannotBeUsedLeaveTheLastGoodPair(t *testing.T) {
	t.Parallel()
	authority, other := certtest.NewAuthority(t), certtest.NewAuthority(t)
	next := authority.Issue(t, certtest.Leaf{Names: []string{"next"}})
	chain := certtest.PEM(next.Leaf, other.Certificate)
	future := authority.Issue(t, certtest.Leaf{NotBefore: time.Now().Add(time.Hour)})
	past := authority.Issue(t, certtest.Leaf{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})
	for title, test := range map[string]struct {
		cert, key []byte // nil leaves the file
		want      string
	}{
		"a key that does not fit":        {certtest.PEM(next.Leaf), nil, "private key does not match public key"},
		"a certificate that does not":    {nil, certtest.KeyPEM(t, next), "private key does not match public key"},
		"an empty certificate":           {[]byte{}, nil, "it has no certificate in PEM"},
		"an empty key":                   {nil, []byte{}, "failed to find any PEM data in key input"},
		"half a certificate":             {certtest.PEM(next.Leaf)[:300], certtest.KeyPEM(t, next), "a block in it is not complete"},
		"a chain without its second end": {chain[:len(chain)-40], certtest.KeyPEM(t, next), "a block in it is not complete"},
		"a chain that begins in a block": {append([]byte("-----BEGIN CERTIFICATE-----\nMII\n"), chain...), certtest.KeyPEM(t, next), "a block in it is not complete"},
		"one that is not valid yet":      {certtest.PEM(future.Leaf), certtest.KeyPEM(t, future), "the certificate is not valid yet: it begins at "},
		"one that has expired":           {certtest.PEM(past.Leaf), certtest.KeyPEM(t, past), "the certificate has expired at "},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			files, leaf := authority.Write(t, certtest.Leaf{Names: []string{"first"}})
			value := certfiles.NewPair(files.Cert, files.Key)
			if pair, err := value.Read(); err != nil || !pair.Certificate.Leaf.Equal(leaf) {
				t.Fatalf("the first pair is %v, %v", pair, err)
			}
			if test.cert != nil {
				certtest.Store(t, files.Cert, test.cert)
			}
			if test.key != nil {
				certtest.Store(t, files.Key, test.key)
			}
			pair, err := value.Read()
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), files.Cert+" and "+files.Key+": ") {
				t.Errorf("the error is %v, want %q", err, test.want)
			}
			if !pair.Certificate.Leaf.Equal(leaf) {
				t.Error("the last good pair is not in use any more")
			}
			if pair, err := certfiles.NewPair(files.Cert, files.Key).Read(); pair != nil || err == nil {
				t.Errorf("as the first, they are %v, %v", pair, err)
			}
			certtest.Store(t, files.Cert, chain)
			certtest.Store(t, files.Key, certtest.KeyPEM(t, next))
			if pair, err := value.Read(); err != nil || !pair.Certificate.Leaf.Equal(next.Leaf) || len(pair.Certificate.Certificate) != 2 {
				t.Errorf("then the pair is %v, %v", pair, err)
			}
		})
	}
}

func TestTheValidityIsThatOfWhatEndsFirst(t *testing.T) {
	t.Parallel()
	authority := certtest.NewAuthority(t)
	long := authority.Issue(t, certtest.Leaf{NotAfter: time.Now().AddDate(2, 0, 0)})
	short := authority.Issue(t, certtest.Leaf{NotAfter: time.Now().AddDate(0, 1, 0)})
	files := certtest.In(t.TempDir())
	certtest.Store(t, files.Cert, certtest.PEM(long.Leaf, short.Leaf)) // as an authority between
	certtest.Store(t, files.Key, certtest.KeyPEM(t, long))
	pair, err := certfiles.NewPair(files.Cert, files.Key).Read()
	if err != nil || !pair.Validity.NotAfter.Equal(short.Leaf.NotAfter) || !pair.Validity.NotBefore.Equal(short.Leaf.NotBefore) {
		t.Errorf("the pair is valid %v, %v; want that of the chain's shortest", pair, err)
	}
	// Of authorities one is enough.
	certtest.Store(t, files.CA, certtest.PEM(short.Leaf, authority.Certificate))
	pool, err := certfiles.NewPool(files.CA).Read()
	if err != nil || !pool.Validity.NotAfter.Equal(authority.Certificate.NotAfter) {
		t.Errorf("the pool is valid %v, %v; want that of the longest", pool, err)
	}
	want := x509.NewCertPool()
	want.AddCert(short.Leaf)
	want.AddCert(authority.Certificate)
	if !pool.Roots.Equal(want) {
		t.Error("the pool does not have both authorities")
	}
}

func TestAPoolThatIsHalfWrittenIsNotUsed(t *testing.T) {
	t.Parallel()
	one, other := certtest.NewAuthority(t), certtest.NewAuthority(t)
	name := certtest.In(t.TempDir()).CA
	certtest.Store(t, name, certtest.PEM(one.Certificate))
	value := certfiles.NewPool(name)
	first, err := value.Read()
	if err != nil {
		t.Fatal(err)
	}
	both := certtest.PEM(one.Certificate, other.Certificate)
	for _, content := range [][]byte{both[:len(both)-1-len("-----END CERTIFICATE-----")], {}, []byte("no PEM")} {
		certtest.Store(t, name, content)
		if pool, err := value.Read(); pool != first || err == nil || !strings.HasPrefix(err.Error(), name+": ") {
			t.Errorf("%d bytes are the pool %p, %v; want %p, the last good one", len(content), pool, err, first)
		}
	}
	certtest.Store(t, name, append([]byte("# both of them\n"), both...))
	if pool, err := value.Read(); err != nil || pool == first {
		t.Errorf("both are %v, %v", pool, err)
	}
}
