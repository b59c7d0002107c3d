// Package proto has the .proto files that the .proto files of users import.
package proto

import _ "embed" // for the text of a file

// OptionsPath is the path by which .proto files import [Options].
const OptionsPath = "onecall/v1/options.proto"

// Options is the text of the file with the options of APIs and RPCs.
//
//go:embed onecall/v1/options.proto
var Options string
