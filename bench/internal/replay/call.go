package replay

import (
	"net/http"
	"strings"
)

// identityKey is the metadata key of a call's identity, as net/http spells it.
const identityKey = "Onecall-Call"

// Call is a call as it was on the wire, with its whole request. It is not changed
// after its creation.
type Call struct {
	// Authority is the :authority of HTTP/2, often the name that was dialled.
	Authority string
	// Path is "/package.Service/Method".
	Path string
	// Header are all other headers of the request.
	Header http.Header
	// Body is the request, with gRPC's message prefixes.
	Body []byte
}

// Identity returns the call's identity on the wire, "" if it has none.
func (c Call) Identity() string { return strings.Join(c.Header.Values(identityKey), ",") }
