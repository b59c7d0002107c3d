// Package sourceinfo keeps the comments of .proto files, which Go's generated
// descriptors do not have. What protoc-gen-onecall generates registers them.
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

// Register keeps the comments of a file: a serialized
// google.protobuf.SourceCodeInfo, which is read when it is asked for. Of a file
// that is registered twice the first is kept. It is for generated code; what it
// returns makes it fit for a variable's initial value.
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

// Find returns the comments of a file, nil when none are registered. They must not
// be changed. It is safe for all goroutines.
func Find(path string) *descriptorpb.SourceCodeInfo {
	registered.mu.Lock()
	found := registered.files[path]
	registered.mu.Unlock()
	if found == nil {
		return nil
	}
	return found()
}
