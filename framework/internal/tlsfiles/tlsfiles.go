// Package tlsfiles has the transport credentials of option framework.TLS: TLS with
// certificates from files, which may be replaced while the program runs.
package tlsfiles

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/onecall-dev/onecall/framework/internal/notifier"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/internal/certfiles"
	"github.com/onecall-dev/onecall/internal/lastgood"
	"github.com/onecall-dev/onecall/internal/lograte"
	"github.com/onecall-dev/onecall/telemetry"
)

// Files are the files of a service or a bus: see framework.TLSFiles.
type Files struct {
	CA, Cert, Key  string
	AllowAnonymous bool
	// Default says that credentials of the program's own replace these.
	Default bool
}

// Check returns an error if a file is missing that both sides need.
func (f Files) Check() error {
	switch {
	case f.CA == "":
		return errors.New("option TLS: CA is empty: give the file with the certificates of the authorities that sign those of the other side")
	case f.Cert == "" && f.Key != "":
		return errors.New("option TLS: Cert is empty though Key is set: give the file of the certificate too")
	case f.Cert != "" && f.Key == "":
		return errors.New("option TLS: Key is empty though Cert is set: give the file of the key too")
	default:
		return nil
	}
}

// Identity is what a service or a bus has read from its files. Its methods are safe for
// all goroutines.
type Identity struct {
	files  Files
	log    *slog.Logger
	notify *notifier.Notifier
	pair   *lastgood.Value[*certfiles.Pair] // nil if there is no certificate
	pool   *lastgood.Value[*certfiles.Pool]
	// refused limits the lines about connections that were refused.
	refused lograte.Limiter

	mu sync.Mutex // guards the fields below; it is not held while the log or an observer is called
	// current is what was last read.
	current material
	// problem is the text of the last error, "" if the files can be used.
	problem string
	// warned is when it was last warned of the expiry.
	warned time.Time
}

// material is what is made of the files. Its credentials are made anew when the files
// change: with them, the keys of session tickets change, so no session that an earlier
// authority allowed can be resumed.
type material struct {
	pair        *certfiles.Pair
	pool        *certfiles.Pool
	credentials credentials.TransportCredentials
	validity    certfiles.Validity
}

// New reads the files. Its errors are those of option TLS. It notifies the observers of
// the first certificate.
func New(files Files, log *slog.Logger, notify *notifier.Notifier) (*Identity, error) {
	i := &Identity{files: files, log: log, notify: notify, pool: certfiles.NewPool(files.CA)}
	if files.Cert != "" {
		i.pair = certfiles.NewPair(files.Cert, files.Key)
	}
	if _, err := i.read(); err != nil {
		return nil, err
	}
	return i, nil
}

// read reads the files and returns what is in use. The error is why the files cannot be
// used, also if earlier ones stay in use.
func (i *Identity) read() (material, error) {
	var next material
	var errs [2]error
	if i.pair != nil {
		next.pair, errs[0] = i.pair.Read()
	}
	next.pool, errs[1] = i.pool.Read()
	err := errors.Join(errs[:]...)
	if i.pair != nil && next.pair == nil || next.pool == nil {
		return material{}, err
	}
	i.mu.Lock()
	changed := next.pair != i.current.pair || next.pool != i.current.pool
	if changed {
		next.credentials, next.validity = i.credentials(next), next.expiring()
		i.current, i.warned = next, time.Time{}
	}
	using, problem := i.current, ""
	if err != nil {
		problem = err.Error()
	}
	failed := problem != i.problem
	i.problem = problem
	i.mu.Unlock()
	i.report(using, changed, failed, err)
	return using, err
}

// report logs that the files have changed, or whether they can be used has, and notifies
// the observers.
func (i *Identity) report(using material, changed, failed bool, err error) {
	expires := slog.Time("expires", using.validity.NotAfter)
	switch {
	case failed && err != nil:
		i.log.Error("the files of option TLS cannot be used: the last good ones stay in use", slog.Any("error", err), expires)
	case changed, failed:
		i.log.Info("using the certificates of option TLS", expires)
	default:
		return
	}
	i.notify.Notify(context.Background(), observe.CertificateChanged{Expires: using.validity.NotAfter, Err: err})
}

// credentials returns the credentials of both sides with what was read.
func (i *Identity) credentials(from material) credentials.TransportCredentials {
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: from.pool.Roots, ClientCAs: from.pool.Roots, ClientAuth: tls.RequireAndVerifyClientCert}
	if i.files.AllowAnonymous {
		config.ClientAuth = tls.VerifyClientCertIfGiven
	}
	if from.pair != nil {
		config.Certificates = []tls.Certificate{from.pair.Certificate}
	}
	return credentials.NewTLS(config)
}

// expiring returns the validity of what expires first: own certificates, or all the
// authorities. An authority that expires before another is often one that is replaced.
func (m material) expiring() certfiles.Validity {
	if m.pair == nil || m.pool.Validity.NotAfter.Before(m.pair.Validity.NotAfter) {
		return m.pool.Validity
	}
	return m.pair.Validity
}

// Warning begins 30 days before a certificate expires, or when a quarter of its lifetime
// is left if that is less, and is repeated every day.
const (
	warnBefore   = 30 * 24 * time.Hour
	warnFraction = 4
	warnEvery    = 24 * time.Hour
)

// expiresSoon reports whether it is to be warned of the expiry.
func (m material) expiresSoon(now time.Time) bool {
	return m.validity.NotAfter.Sub(now) <= min(warnBefore, m.validity.NotAfter.Sub(m.validity.NotBefore)/warnFraction)
}

// Collect adds the metrics. It adds none for nil.
func (i *Identity) Collect(add func(telemetry.Metric)) {
	if i == nil {
		return
	}
	i.mu.Lock()
	expiring, unusable := i.current.expiresSoon(time.Now()), i.problem != ""
	i.mu.Unlock()
	add(telemetry.TLSExpiring.Value(telemetry.Flag(expiring)))
	add(telemetry.TLSUnusable.Value(telemetry.Flag(unusable)))
}

// Refresh reads the files and warns of a certificate that expires soon.
func (i *Identity) Refresh() {
	using, _ := i.read() // which has reported the error
	now := time.Now()
	left := using.validity.NotAfter.Sub(now)
	if !using.expiresSoon(now) {
		return
	}
	i.mu.Lock()
	justExpired := left <= 0 && i.warned.Before(using.validity.NotAfter)
	warn := justExpired || now.Sub(i.warned) >= warnEvery // also if it was never warned
	if warn {
		i.warned = now
	}
	i.mu.Unlock()
	if !warn {
		return
	}
	expires := slog.Time("expires", using.validity.NotAfter)
	if left <= 0 {
		i.log.Error("a certificate of option TLS has expired, so the other side refuses it: renew it", expires)
	} else {
		i.log.Warn("a certificate of option TLS expires soon: renew it", expires, slog.Duration("left", left.Round(time.Minute)))
	}
	i.notify.Notify(context.Background(), observe.CertificateExpiring{Expires: using.validity.NotAfter})
}

// Watch refreshes the identity until stop. It does nothing for nil.
func (i *Identity) Watch() (stop func()) {
	if i == nil {
		return func() {}
	}
	i.Refresh()
	return lastgood.Poll(i.Refresh)
}
