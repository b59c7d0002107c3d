// Package validate checks the messages of calls against the protovalidate rules in their
// .proto files (https://protovalidate.com).
//
// Rules are compiled when an API is registered or first called. A rule that does not
// compile is a *[RuleError] at that time. Both sides check each message: the caller checks
// a request before sending it and a reply after receiving it; the server checks a request
// before the handler runs and a reply after the handler returns. The same is true for each
// message of a stream. A message type costs nothing if neither it nor any message in its
// fields has a rule.
//
// A message that breaks rules causes an *[Error] with every violation. For a request its
// code is INVALID_ARGUMENT, and its details are google.rpc.BadRequest and protovalidate's
// buf.validate.Violations. For a reply its code is INTERNAL, and a server also logs it.
//
// # What an error does not show
//
// A field with the option debug_redact = true is hidden: no error, detail or log line shows
// its value or anything in it. Its violations name the field and the rule, but neither the
// keys of hidden maps nor the text of the rule, because that text may contain the value.
// The text of a rule is also hidden if the rule reads a whole message (or a list or map of
// messages) that may contain a hidden field at any depth, or a google.protobuf.Any, which
// may contain any message.
//
// # What is not checked
//
// protovalidate does not check the message inside a google.protobuf.Any, because the
// receiver may not know its type. Rules about the Any itself, such as which types it may
// contain, are checked. Messages that are not protobuf messages, such as those of other
// codecs and grpc.PreparedMsg, are not checked.
package validate
