package replay

import (
	"net/http"
	"strings"
)

// identityKey is the metadata key of a call's identity, as net/http spells it.
const identityKey = "Onecall-Call"

// Call is a call as it stood on the wire, with its whole request. Nobody changes
// one.
type Call struct {
	// Authority is HTTP/2's, often the name that was dialled.
	Authority string
	// Path is "/package.Service/Method".
	Path string
	// Header are all other headers of the request.
	Header http.Header
	// Body is the request, with gRPC's message prefixes.
	Body []byte
}

// Identity is the call's identity on the wire, "" if it has none.
func (c Call) Identity() string { return strings.Join(c.Header.Values(identityKey), ",") }
