package discovery

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/onecall-dev/onecall/internal/quote"
)

// State says whether an instance accepts new calls.
type State string

// The states of an instance.
const (
	// Serving instances accept calls.
	Serving State = "serving"
	// Draining instances finish the calls in flight and accept no new ones.
	Draining State = "draining"
)

// Instance is one API served at one address. Treat it as a value: do not change one that
// was passed to another goroutine.
type Instance struct {
	// API is the bus name, such as "auth".
	API string
	// Address is "host:port" as gRPC dials it, with a host that other machines
	// can reach.
	Address string
	// Incarnation distinguishes one process at an address from the next. It is zero
	// for an instance that another program registered in etcd's own format.
	Incarnation Incarnation
	// Service is the full proto name, such as "auth.v1.AuthService".
	Service string
	// State is [Serving] when empty.
	State State
	// Version is the program's, as it names itself; "" when unknown.
	Version string
	// Zone is the failure domain that the instance runs in; "" when unknown.
	Zone string
	// Schema is a digest of the API's descriptors; "" when unknown.
	Schema string
	// Descriptors are the API's descriptors, compressed. They are set to register an
	// instance, and are no part of a [Snapshot]: see [Registry.Descriptors].
	Descriptors string
	// Started is when the process started, to the millisecond; zero when
	// unknown.
	Started time.Time
	// Socket is a unix socket on which the instance is reached too; zero if there is
	// none.
	Socket Socket
}

// Socket is a unix socket of an instance, for callers on its host. Either all fields are
// set or none.
type Socket struct {
	// Host identifies the host of the instance, from its start until its next one.
	Host string
	// Path is the absolute path of the socket.
	Path string
	// File identifies the file at Path, so that a caller does not take another file at the
	// same path for it: its device and inode, "device:inode".
	File string
}

// problem returns why callers cannot use a socket, and "" if they can or there is none.
func (s Socket) problem() string {
	if s == (Socket{}) {
		return ""
	}
	if s.Host == "" || s.File == "" || !strings.HasPrefix(s.Path, "/") {
		return "has no host, no file or no absolute path: set all three, or none"
	}
	for _, text := range []string{s.Host, s.Path, s.File} {
		if problem := textProblem(text); problem != "" {
			return problem
		}
	}
	return ""
}

// Valid reports whether callers can use the socket. It is false for the zero value.
func (s Socket) Valid() bool { return s != Socket{} && s.problem() == "" }

// Equal reports whether two instances are the same in every field.
func (i Instance) Equal(other any) bool {
	o, ok := other.(Instance)
	if !ok || !i.Started.Equal(o.Started) {
		return false
	}
	o.Started = i.Started
	return i == o
}

// Validate returns an *[InstanceError] that names the first field with which
// callers could not use the instance.
func (i Instance) Validate() error {
	if problem := apiProblem(i.API); problem != "" {
		return &InstanceError{Instance: i, Field: "API", Problem: problem}
	}
	if i.State != "" && i.State != Serving && i.State != Draining {
		return &InstanceError{Instance: i, Field: "State", Problem: fmt.Sprintf("%s is neither %q nor %q", quote.Text(string(i.State)), Serving, Draining)}
	}
	if problem := addressProblem(i.Address); problem != "" {
		return &InstanceError{Instance: i, Field: "Address", Problem: problem}
	}
	for _, text := range []struct{ field, value string }{{"Service", i.Service}, {"Version", i.Version}, {"Zone", i.Zone}, {"Schema", i.Schema}} {
		if problem := textProblem(text.value); problem != "" {
			return &InstanceError{Instance: i, Field: text.field, Problem: problem}
		}
	}
	if problem := i.Socket.problem(); problem != "" {
		return &InstanceError{Instance: i, Field: "Socket", Problem: problem}
	}
	return nil
}

// maxTextBytes bounds the texts of an instance, which callers keep and log.
const maxTextBytes = 1024

func textProblem(text string) string {
	switch {
	case len(text) > maxTextBytes:
		return fmt.Sprintf("has %d bytes: give %d at most", len(text), maxTextBytes)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return quote.Text(text) + " is no line of text: leave out line breaks and other control characters"
	}
	return ""
}

// maxNameBytes bounds names of APIs, and maxHostBytes those of hosts, as DNS does.
const (
	maxNameBytes = 255
	maxHostBytes = 253
)

func apiProblem(api string) string {
	switch {
	case api == "":
		return "is empty: give the API's bus name"
	case strings.Contains(api, "/"):
		return quote.Text(api) + " has a slash, which no name of an API has"
	case len(api) > maxNameBytes:
		return fmt.Sprintf("%s has %d bytes: a name has at most %d", quote.Text(api), len(api), maxNameBytes)
	case strings.ContainsFunc(api, func(r rune) bool { return !ofName(r) }):
		return quote.Text(api) + ` has a character that no name of an API has: it holds letters, digits, and any of "._-"`
	}
	return ""
}

// ofName reports whether a character may be in a name of a host or an API.
func ofName(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("._-", r)
}

// otherSchemes are hosts that gRPC takes for a scheme in front of an address: of
// "unix:8443" its dialer connects to the socket "8443" in the program's folder.
var otherSchemes = []string{"passthrough", "unix", "unix-abstract", "vsock"}

func addressProblem(address string) string {
	if address == "" {
		return `is empty: give "host:port"`
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		if malformed, ok := errors.AsType[*net.AddrError](err); ok {
			return fmt.Sprintf(`%s is not "host:port": %s`, quote.Text(address), malformed.Err)
		}
		return quote.Text(address) + ` is not "host:port"`
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return fmt.Sprintf("%s has the port %s: a port is a number from 1 to 65535", quote.Text(address), quote.Text(port))
	}
	return hostProblem(address, host)
}

func hostProblem(address, host string) string {
	if host == "" {
		return quote.Text(address) + " has no host: give one that callers can reach"
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && ip.WithZone("").Unmap().IsUnspecified():
		return quote.Text(address) + " is every address of this host and none that callers can dial: give one of them"
	case len(host) > maxHostBytes, err == nil && strings.ContainsFunc(host, unfitForZone), err != nil && strings.ContainsFunc(host, func(r rune) bool { return !ofName(r) }):
		return quote.Text(address) + " has a host that is neither a name nor an IP address"
	case slices.Contains(otherSchemes, strings.ToLower(host)):
		return fmt.Sprintf("%s has the host %q, which gRPC takes for a kind of address: give a host's name or IP address", quote.Text(address), host)
	}
	return ""
}

// unfitForZone reports whether a character may not be in an IPv6 address with its
// zone.
func unfitForZone(r rune) bool { return r <= ' ' || r == '/' || r >= unicode.MaxASCII }

// Incarnation is a 128-bit random number that a process draws when it starts.
// Its text is 22 characters of unpadded base64url. The zero value is none.
type Incarnation [16]byte

// NewIncarnation draws an incarnation.
func NewIncarnation() Incarnation {
	var i Incarnation
	for i == (Incarnation{}) {
		_, _ = rand.Read(i[:]) // never fails: see crypto/rand
	}
	return i
}

// ParseIncarnation reads the text of an incarnation.
func ParseIncarnation(text string) (Incarnation, error) {
	var i Incarnation
	decoded, err := base64.RawURLEncoding.Strict().DecodeString(text)
	// The length of text counts too: base64 passes over line breaks.
	if err != nil || len(decoded) != len(i) || len(text) != base64.RawURLEncoding.EncodedLen(len(i)) {
		return Incarnation{}, fmt.Errorf("discovery: incarnation %s is not 22 characters of unpadded base64url", quote.Text(text))
	}
	copy(i[:], decoded)
	if i.IsZero() {
		return Incarnation{}, fmt.Errorf("discovery: incarnation %s is zero, which stands for none", text)
	}
	return i, nil
}

// IsZero reports whether there is no incarnation.
func (i Incarnation) IsZero() bool { return i == Incarnation{} }

// String returns the text of the incarnation, "" of none.
func (i Incarnation) String() string {
	if i.IsZero() {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(i[:])
}
