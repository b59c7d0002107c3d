// Package protoargs converts between plain Go values and protobuf messages. Package encode
// converts the parameters of a call to its request, and package decode a reply to Go
// values. This package has what both need.
//
// They use descriptors and need no generated code. If generated code is linked into the
// program, the messages have their generated types.
//
// No error shows the values of fields with debug_redact, or the keys and unknown names
// inside them.
package protoargs

import "google.golang.org/protobuf/reflect/protoregistry"

const (
	// MaxDepth is how deep a value may be nested: messages in messages, and lists and
	// objects in JSON.
	MaxDepth = 64
	// MaxPointers bounds the pointers that are followed to one value, because a pointer
	// may point to itself.
	MaxPointers = 16
	// TypeKey is the key of the type URL in the map of an Any, as in protobuf's JSON.
	TypeKey = "@type"
	// ValueKey is the key in that map for a value that has no named fields.
	ValueKey = "value"
)

// Resolver finds the Go types of messages. *protoregistry.Types and
// *dynamicpb.Types are resolvers.
type Resolver interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}
