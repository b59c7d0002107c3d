package peer

import (
	"strings"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/metadata"
)

// The metadata keys of a call's identity, and of the incarnation of an instance.
const (
	identityKey    = "onecall-call"
	incarnationKey = "onecall-incarnation"
)

// Request is what has arrived of one stream.
type Request struct {
	// Number is the number of the request at its peer, from 1, in the order of arrival.
	Number int
	// Connection is the number of the connection at its peer, from 1.
	Connection int
	// Stream is the HTTP/2 stream identifier.
	Stream uint32
	// Path is "/package.Service/Method".
	Path string
	// Metadata are all other headers, without HTTP/2's pseudo-headers.
	Metadata metadata.MD
	// Body is what has arrived of the body, with gRPC's message prefixes.
	Body []byte
	// Whole is whether the request has arrived completely.
	Whole bool
	// Executed is whether the script executed it.
	Executed bool
	// Reset is the code with which the client reset the stream, nil if it did not.
	Reset *http2.ErrCode
}

// Identity returns the call's identity on the wire, "" if it has none.
func (r Request) Identity() string { return strings.Join(r.Metadata.Get(identityKey), ",") }
