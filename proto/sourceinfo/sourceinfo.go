// Package sourceinfo stores the comments of .proto files, which Go's generated descriptors
// do not have. The code that protoc-gen-onecall generates registers them.
package sourceinfo

import (
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
)

// registered are the comments of each file, by its path.
var registered struct {
	mu    sync.Mutex // guards files
	files map[string]func() *descriptorpb.SourceCodeInfo
}

// Register stores the comments of a file, a serialized google.protobuf.SourceCodeInfo that
// Find parses. If a file is registered twice, the first comments are kept. Generated code
// calls it, as the initial value of a variable: that is why it returns a value.
func Register(path, data string) struct{} {
	registered.mu.Lock()
	defer registered.mu.Unlock()
	if registered.files == nil {
		registered.files = make(map[string]func() *descriptorpb.SourceCodeInfo)
	}
	if registered.files[path] != nil {
		return struct{}{}
	}
	registered.files[path] = sync.OnceValue(func() *descriptorpb.SourceCodeInfo {
		info := new(descriptorpb.SourceCodeInfo)
		if proto.Unmarshal([]byte(data), info) != nil {
			return nil
		}
		return info
	})
	return struct{}{}
}

// Find returns the comments of a file, nil if none are registered. They must not be
// changed. It is safe for concurrent use.
func Find(path string) *descriptorpb.SourceCodeInfo {
	registered.mu.Lock()
	found := registered.files[path]
	registered.mu.Unlock()
	if found == nil {
		return nil
	}
	return found()
}

// Comments returns the part of the information about a .proto file that has the comments of
// declarations: what protoc-gen-onecall generates, and an API publishes.
func Comments(info *descriptorpb.SourceCodeInfo) *descriptorpb.SourceCodeInfo {
	out := &descriptorpb.SourceCodeInfo{}
	for _, location := range info.GetLocation() {
		if len(location.GetPath()) < 2 || location.GetLeadingComments() == "" && location.GetTrailingComments() == "" {
			continue
		}
		out.Location = append(out.Location, &descriptorpb.SourceCodeInfo_Location{
			Path:             location.GetPath(),
			LeadingComments:  location.LeadingComments,
			TrailingComments: location.TrailingComments,
		})
	}
	return out
}
