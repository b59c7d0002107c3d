// Package protoargs turns parameters with names into protobuf messages,
// and messages into plain Go values, by descriptor: no generated code is
// needed, and where it is linked in, it is what comes out.
//
// # What a parameter is
//
// Its name is the field's name in the .proto, such as user_name; the camelCase
// of JSON is no name. A field must be given unless the .proto says that it may
// be left out: see [contract.Required].
//
// # What values it takes
//
// A value is converted exactly or refused; see [Plan.Encode] for the table.
//
// # What a reply comes out as
//
// See [ToMap] and [Decode].
//
// Values that fields with debug_redact hold are in no error, nor are the keys
// and unknown names inside them.
package protoargs
