package inprocess

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
)

// contentType is the metadata in which a reply of the network says that it is one of gRPC.
const contentType, grpcContent = "content-type", "application/grpc"

// detailsKey is the trailer in which gRPC sends the details of a status.
const detailsKey = "grpc-status-details-bin"

// isReserved reports whether gRPC sends no metadata of a key, because it has a meaning of
// its own.
func isReserved(key string) bool {
	switch key {
	case "", contentType, "user-agent", "grpc-message-type", "grpc-encoding", "grpc-message", "grpc-status", "grpc-timeout", "te":
		return true
	default:
		return key[0] == ':'
	}
}

// validate returns grpc-go's error of metadata that cannot be sent.
func validate(md metadata.MD) error {
	for key, values := range md {
		switch {
		case key == "":
			return errors.New("there is an empty key in the header")
		case key[0] == ':':
			continue
		case strings.Trim(key, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "":
			return fmt.Errorf("header key %q contains illegal characters not in [0-9a-z-_.]", key)
		case strings.HasSuffix(key, "-bin"):
			continue
		}
		if slices.ContainsFunc(values, isUnprintable) {
			return fmt.Errorf("header key %q contains value with non-printable ASCII characters", key)
		}
	}
	return nil
}

func isUnprintable(value string) bool {
	return strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' })
}

// entryBytes is how many bytes more than its key and value an entry of metadata counts for
// the limit of HTTP/2.
const entryBytes = 32

// ownMetadata is how many bytes the entries may count that gRPC sends besides those of the
// call, such as its path and identity.
const ownMetadata = 1 << 10

// fits reports whether metadata certainly is below a limit.
func fits(md metadata.MD, limit uint32) bool {
	size := ownMetadata
	for key, values := range md {
		for _, value := range values {
			size += len(key) + 2*len(value) + entryBytes // base64 makes it larger
		}
	}
	return size < int(limit)
}

// entry is a key of metadata and its values, which are never changed.
type entry struct {
	key    string
	values []string
}

// entries returns the entries of metadata.
func entries(md metadata.MD) (all []entry) {
	for key, values := range md {
		all = append(all, entry{key, slices.Clip(values)})
	}
	return all
}

// arriving returns the metadata that arrives at the other end: base, which the connection
// adds, outgoing, and own. Its values are not shared with outgoing.
func arriving(base []entry, outgoing metadata.MD, own Pair) metadata.MD {
	md := make(metadata.MD, len(base)+len(outgoing)+1)
	for _, e := range base {
		md[e.key] = e.values
	}
	for key, values := range outgoing {
		if !isReserved(key) && len(values) > 0 {
			md[key] = append(slices.Clip(md[key]), values...)
		}
	}
	if own.Key != "" {
		md[own.Key] = append(slices.Clip(md[own.Key]), own.Value)
	}
	return md
}
