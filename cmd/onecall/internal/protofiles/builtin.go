// Package protofiles compiles folders of .proto files, and has those that users import.
package protofiles

import (
	_ "embed" // for the text of a file

	"github.com/onecall-dev/onecall/proto"
)

// validatePath is the path by which .proto files import the rules.
const validatePath = "buf/validate/validate.proto"

// validate is the file of the rules, from the module github.com/bufbuild/protovalidate.
//
//go:embed buf/validate/validate.proto
var validate string

// Builtin returns the files that .proto files can import without a copy in their folders:
// the texts by the paths of the imports. The files below google/protobuf are known too.
func Builtin() map[string]string {
	return map[string]string{proto.OptionsPath: proto.Options, validatePath: validate}
}
