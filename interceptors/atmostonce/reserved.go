package atmostonce

import (
	"strings"

	"google.golang.org/grpc/metadata"
)

// isReserved reports whether a metadata key begins with [Prefix], in any case.
func isReserved(key string) bool {
	return len(key) >= len(Prefix) && strings.EqualFold(key[:len(Prefix)], Prefix)
}

// HasReserved reports whether a key of the metadata is reserved.
func HasReserved(md metadata.MD) bool {
	for key := range md {
		if isReserved(key) {
			return true
		}
	}
	return false
}

// WithoutReserved returns the metadata without the reserved keys: md itself if
// there are none, else a copy that shares the values.
func WithoutReserved(md metadata.MD) metadata.MD {
	if !HasReserved(md) {
		return md
	}
	kept := make(metadata.MD, len(md))
	for key, values := range md {
		if !isReserved(key) {
			kept[key] = values
		}
	}
	return kept
}
