// Package protoargs converts named arguments to protobuf messages, and messages to plain
// Go values. It uses descriptors and needs no generated code. If generated code is linked
// into the program, the messages have their generated types.
//
// # Parameters
//
// A parameter's name is the field's name in the .proto file, such as user_name, and not its
// camelCase JSON name. A call must set a field unless the .proto file says that it may be
// omitted: see [contract.Required].
//
// # Values
//
// A value is converted exactly or refused. See [Plan.Encode] for the conversions.
//
// # Replies
//
// See [ToMap] and [Decode].
//
// No error shows the values of fields with debug_redact, or the keys and unknown names
// inside them.
package protoargs
