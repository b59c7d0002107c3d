package contract

import (
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/fieldpath"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
)

// KeepsReply reports whether a server may keep what calls of an RPC returned, for a caller
// that did not receive it. path is gRPC's path. It is false if no .proto file of files has
// the RPC. It searches the reply for fields with debug_redact, so call it once for each RPC.
func KeepsReply(files *protoregistry.Files, path string) bool {
	service, name, ok := SplitMethod(path)
	if !ok {
		return false
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(service + "." + name))
	if err != nil {
		return false
	}
	method, ok := found.(protoreflect.MethodDescriptor)
	if !ok {
		return false
	}
	level, options := methodOptions(method)
	switch options.GetKeepReply() {
	case onecallv1.KeepReply_KEEP_REPLY_ALWAYS:
		return true
	case onecallv1.KeepReply_KEEP_REPLY_NEVER:
		return false
	default:
		return level != descriptorpb.MethodOptions_NO_SIDE_EFFECTS && !hasRedacted(method.Output(), make(map[protoreflect.FullName]bool))
	}
}

// hasRedacted reports whether a message has a field with debug_redact, at any depth. Fields
// of messages in a google.protobuf.Any are not known.
func hasRedacted(message protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) bool {
	if seen[message.FullName()] {
		return false
	}
	seen[message.FullName()] = true
	fields := message.Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if fieldpath.Redacted(field) {
			return true
		}
		if inner := fieldpath.MessageIn(field); inner != nil && hasRedacted(inner, seen) {
			return true
		}
	}
	return false
}
