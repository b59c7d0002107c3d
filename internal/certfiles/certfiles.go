// Package certfiles reads certificates and keys in PEM from files that may be replaced
// while the program runs. A file that is only half written is an error.
package certfiles

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/onecall-dev/onecall/internal/lastgood"
)

// Validity is the time in which certificates are valid.
type Validity struct{ NotBefore, NotAfter time.Time }

// Pair is a certificate with its chain, and its key.
type Pair struct {
	Certificate tls.Certificate
	// Validity is that of the certificate of the chain that expires first.
	Validity Validity
}

// Pool has the certificates of authorities.
type Pool struct {
	Roots *x509.CertPool
	// Validity is that of the authority that expires last.
	Validity Validity
}

// NewPair returns the pair in two files. A key that does not fit the certificate, and a
// certificate that is not valid now, are errors.
func NewPair(cert, key string) *lastgood.Value[*Pair] {
	return lastgood.New(func(contents [][]byte) (*Pair, error) {
		pair, err := parsePair(contents[0], contents[1])
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", cert, key, err)
		}
		return pair, nil
	}, cert, key)
}

// NewPool returns the authorities in a file.
func NewPool(ca string) *lastgood.Value[*Pool] {
	return lastgood.New(func(contents [][]byte) (*Pool, error) {
		pool, err := parsePool(contents[0])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ca, err)
		}
		return pool, nil
	}, ca)
}

func parsePair(cert, key []byte) (*Pair, error) {
	chain, err := certificates(cert)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	pair := &Pair{Certificate: certificate, Validity: validity(chain[0])}
	for _, link := range chain {
		if link.NotAfter.Before(pair.Validity.NotAfter) {
			pair.Validity = validity(link)
		}
	}
	return pair, check(chain[0], time.Now())
}

// check returns an error if a certificate is not valid at a time.
func check(leaf *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("the certificate is not valid yet: it begins at %s, and the clock says %s", text(leaf.NotBefore), text(now))
	case now.After(leaf.NotAfter):
		return fmt.Errorf("the certificate has expired at %s: renew it", text(leaf.NotAfter))
	default:
		return nil
	}
}

// text returns a time for errors.
func text(t time.Time) string { return t.UTC().Format(time.RFC3339) }

func parsePool(content []byte) (*Pool, error) {
	authorities, err := certificates(content)
	if err != nil {
		return nil, err
	}
	pool := &Pool{Roots: x509.NewCertPool(), Validity: validity(authorities[0])}
	for _, authority := range authorities {
		pool.Roots.AddCert(authority)
		if authority.NotAfter.After(pool.Validity.NotAfter) {
			pool.Validity = validity(authority)
		}
	}
	return pool, nil
}

func validity(certificate *x509.Certificate) Validity {
	return Validity{NotBefore: certificate.NotBefore, NotAfter: certificate.NotAfter}
}

// certificates returns the certificates in PEM. It returns an error if there is none, or
// if a block is not complete: package pem leaves out such a block.
func certificates(content []byte) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	begun := bytes.Count(content, []byte("-----BEGIN "))
	for rest := content; ; begun-- {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		found = append(found, certificate)
	}
	switch {
	case begun > 0:
		return nil, errors.New("a block in it is not complete: write the file elsewhere, and rename it")
	case len(found) == 0:
		return nil, errors.New("it has no certificate in PEM")
	default:
		return found, nil
	}
}
