package observe

import "time"

// CertificateChanged says that a service or a bus with option TLS uses certificates that
// it has read from its files, at its start or because the files were replaced, or that
// the files can no longer be used.
type CertificateChanged struct {
	// Expires is when the first certificate in use expires. Handshakes fail after it.
	Expires time.Time
	// Err is why the files cannot be used, nil if they can. The last good ones stay in
	// use.
	Err error
}

// CertificateExpiring says that a certificate of option TLS expires soon or has expired.
// It is repeated every day, from 30 days before, or from when a quarter of the lifetime
// is left if that is less.
type CertificateExpiring struct {
	// Expires is when the certificate expires.
	Expires time.Time
}

// PolicyChanged says that a service with option AuthorizeFile uses a policy that it has
// read from its file, or that the file can no longer be used.
type PolicyChanged struct {
	// Err is why the file cannot be used, nil if it can. The last good policy stays in use.
	Err error
}

func (CertificateChanged) event()  {}
func (CertificateExpiring) event() {}
func (PolicyChanged) event()       {}
