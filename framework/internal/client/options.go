package client

import (
	"context"
	"crypto/cipher"
	"encoding/json"
	"log/slog"
	"time"

	"google.golang.org/grpc"

	"github.com/onecall-dev/onecall/framework/internal/admin"
	"github.com/onecall-dev/onecall/framework/internal/ended"
	"github.com/onecall-dev/onecall/framework/internal/notifier"
	"github.com/onecall-dev/onecall/framework/internal/plaintext"
	"github.com/onecall-dev/onecall/framework/internal/tlsfiles"
	"github.com/onecall-dev/onecall/framework/internal/unixsocket"
	"github.com/onecall-dev/onecall/framework/observe"
	"github.com/onecall-dev/onecall/internal/leastrequest"
	"github.com/onecall-dev/onecall/internal/schema"
	"github.com/onecall-dev/onecall/telemetry"
)

// Options are the options of a bus. The options of package framework set them, and
// document them.
type Options struct {
	Log       *slog.Logger
	Observers []observe.Observer
	Dial      []grpc.DialOption
	// Balancing has one element: a policy and its configuration.
	Balancing    map[string]json.RawMessage
	Zone         string
	StrictSchema bool
	// TLS are the files of the bus's certificates, nil if there are none.
	TLS *tlsfiles.Files
	// Insecure allows plain text with every instance.
	Insecure        bool
	RequireIdentity bool
	// InProcess has calls to instances in this process go without the network.
	InProcess bool
	Retry     RetryPolicy
	Limits    Limits
	// SettleWithin is for how long after its deadline a call is settled.
	SettleWithin time.Duration
	// Tokens seals tokens, nil if there is no key.
	Tokens cipher.AEAD
	// NoSocket says that no unix socket of an instance is used.
	NoSocket bool
	// Unpack reads a schema that an instance publishes. nil means [schema.Unpack].
	Unpack func(packed, service string) (*schema.Schema, error)

	// Tracer makes spans, nil if none are made.
	Tracer observe.Tracer
	// Incoming returns the values of a key of the metadata with which the call arrived
	// whose handler has a context, for what is passed on.
	Incoming func(ctx context.Context, key string) []string
	// LogCalls says that calls are logged.
	LogCalls bool
	// Watchers look at single calls, with the log of calls once NewBus has made it.
	Watchers ended.Watchers
	// Admin serves the status page, nil if there is none.
	Admin *admin.Server
	// Metrics are those that the bus is a source of, nil if there are none.
	Metrics *telemetry.Metrics

	// NewBus sets the fields below.

	// notify notifies the observers, nil if there are none.
	notify *notifier.Notifier
	// callLog is the log of calls, nil if they are not logged.
	callLog *ended.Log
	// sendLimit is the largest request that the dial options let a call by name
	// send, in bytes.
	sendLimit int
	// replyLimit is the largest reply that they let a call receive, in bytes.
	replyLimit int
	// links says that channels look for instances in this process.
	links bool
	// credentials reports whether Dial has credentials, which exclude the others.
	credentials bool
	identity    *tlsfiles.Identity    // of TLS
	plainText   plaintext.Credentials // if there are neither
	// dialer connects over unix sockets too, nil if none are used.
	dialer *unixsocket.Dialer
}

// DefaultOptions returns the options of a bus without any.
func DefaultOptions() Options {
	return Options{Log: slog.Default(), Balancing: defaultBalancing, InProcess: true, Retry: RetryIdempotent, Limits: defaultLimits()}
}

// defaultBalancing picks the instance with the fewest calls in flight.
var defaultBalancing = map[string]json.RawMessage{leastrequest.Name: json.RawMessage(`{}`)}
