package discovery

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// State is what an instance makes of new calls.
type State string

// The states of an instance.
const (
	// Serving instances take calls.
	Serving State = "serving"
	// Draining instances finish the calls they have and want no more.
	Draining State = "draining"
)

// Instance is one API served at one address. Instances are values: nobody
// changes one that others can see.
type Instance struct {
	// API is the bus name, such as "auth".
	API string
	// Address is "host:port" as gRPC dials it, with a host that other machines
	// can reach.
	Address string
	// Incarnation tells one process at an address from the next. It is zero
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
	// Weight is the share of calls that the instance is made for, next to its
	// peers'; 0 when it does not say, which stands for 1.
	Weight uint32
	// Schema is a digest of the API's descriptors; "" when unknown.
	Schema string
	// Descriptors are the API's descriptors, compressed, for who registers an
	// instance; they are no part of a [Snapshot]: see [Registry.Descriptors].
	Descriptors string
	// Started is when the process started, to the millisecond; zero when
	// unknown.
	Started time.Time
}

// Equal tells whether two instances are the same in every field.
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
	switch {
	case i.API == "":
		return &InstanceError{Instance: i, Field: "API", Problem: "is empty: give the API's bus name"}
	case strings.Contains(i.API, "/"):
		return &InstanceError{Instance: i, Field: "API", Problem: fmt.Sprintf("%q has a slash, which no name of an API has", i.API)}
	}
	if i.State != "" && i.State != Serving && i.State != Draining {
		return &InstanceError{Instance: i, Field: "State", Problem: fmt.Sprintf("%q is neither %q nor %q", i.State, Serving, Draining)}
	}
	if problem := addressProblem(i.Address); problem != "" {
		return &InstanceError{Instance: i, Field: "Address", Problem: problem}
	}
	return nil
}

func addressProblem(address string) string {
	if address == "" {
		return `is empty: give "host:port"`
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Sprintf(`%q is not "host:port": %v`, address, err)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return fmt.Sprintf("%q has the port %q: a port is a number from 1 to 65535", address, port)
	}
	if host == "" {
		return fmt.Sprintf("%q has no host: give one that callers can reach", address)
	}
	if strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r == '/' || r > unicode.MaxASCII }) {
		return fmt.Sprintf("%q has a host that is neither a name nor an IP address", address)
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.WithZone("").Unmap().IsUnspecified() {
		return fmt.Sprintf("%q is every address of this host and none that callers can dial: give one of them", address)
	}
	return ""
}

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
		return Incarnation{}, fmt.Errorf("discovery: incarnation %.40q is not 22 characters of unpadded base64url", text)
	}
	copy(i[:], decoded)
	if i.IsZero() {
		return Incarnation{}, fmt.Errorf("discovery: incarnation %s is zero, which stands for none", text)
	}
	return i, nil
}

// IsZero tells whether there is no incarnation.
func (i Incarnation) IsZero() bool { return i == Incarnation{} }

// String gives the text of the incarnation, "" of none.
func (i Incarnation) String() string {
	if i.IsZero() {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(i[:])
}
