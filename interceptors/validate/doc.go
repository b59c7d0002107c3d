// Package validate holds the messages of calls to the rules that their .proto
// files state with protovalidate (https://protovalidate.com).
//
// Rules are compiled once, when an API is registered or first called, and a rule
// that does not compile is a *[RuleError] there and then. A message is checked
// wherever it passes: a request when the caller sends it and when the server
// receives it, a reply when the handler returns it and when the caller receives
// it; each message of a stream likewise. A type of message that has no rule,
// neither itself nor in anything that its fields hold, costs nothing.
//
// A message that breaks rules is an *[Error] with every violation in it: for a
// request INVALID_ARGUMENT, with google.rpc.BadRequest and protovalidate's own
// buf.validate.Violations as details; for a reply INTERNAL, which a server also
// logs.
//
// # What an error does not show
//
// A field with the option debug_redact = true is hidden: its value, and all that
// the value holds, is in no error, detail or line of a log. Its violations name
// the field and the rule, without the keys of hidden maps and without the text
// of the rule, which may have been made from the value. The same goes for the
// text of a rule that looks at a whole message (or list or map of messages) with
// a hidden field anywhere below it, or with a google.protobuf.Any, which may
// hold any message.
//
// # What is not looked into
//
// protovalidate does not look into a google.protobuf.Any: the rules of the
// message in it are those of another type, which the receiver may not know. Rules
// about the Any itself, such as which types it may hold, are checked. Messages
// that are no protobuf messages, such as those of other codecs and
// grpc.PreparedMsg, pass unchecked.
package validate
