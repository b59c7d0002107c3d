package peer

import (
	"strings"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/metadata"
)

// identityKey is the metadata key of a call's identity.
const identityKey = "onecall-call"

// Request is what arrived of one stream.
type Request struct {
	// Number counts the peer's requests, from 1, in the order of arrival.
	Number int
	// Connection counts the peer's connections, from 1.
	Connection int
	// Stream is HTTP/2's number of the stream.
	Stream uint32
	// Path is "/package.Service/Method".
	Path string
	// Metadata are all other headers, without HTTP/2's pseudo-headers.
	Metadata metadata.MD
	// Body is what arrived of the request, with gRPC's message prefixes.
	Body []byte
	// Whole is whether the request arrived to its end.
	Whole bool
	// Executed is whether the script executed it.
	Executed bool
	// Reset is the code with which the caller reset the stream, if it did.
	Reset *http2.ErrCode
}

// Identity is the call's identity on the wire, "" if it has none.
func (r Request) Identity() string { return strings.Join(r.Metadata.Get(identityKey), ",") }
