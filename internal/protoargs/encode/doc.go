// Package encode converts the parameters of a call to its request.
//
// A parameter's name is the field's name in the .proto file, such as user_name, and not its
// camelCase JSON name. A call must set a field unless the .proto file says that it may be
// omitted: see [contract.Required]. A value is converted exactly or refused. See
// [Plan.Encode] for the conversions.
package encode
