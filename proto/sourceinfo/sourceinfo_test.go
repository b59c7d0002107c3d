package sourceinfo_test

import (
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/proto/sourceinfo"
)

func TestCommentsAreFoundByTheirFile(t *testing.T) {
	t.Parallel()
	info := &descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{{Path: []int32{6, 0}, LeadingComments: new("Says.")}}}
	data, err := proto.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			sourceinfo.Register("a.proto", string(data))
			sourceinfo.Register("a.proto", "another's")
			if found := sourceinfo.Find("a.proto"); !proto.Equal(found, info) {
				t.Errorf("found %v, want %v", found, info)
			}
		})
	}
	all.Wait()
	sourceinfo.Register("bad.proto", "\xff")
	for _, path := range []string{"bad.proto", "none.proto", ""} {
		if found := sourceinfo.Find(path); found != nil {
			t.Errorf("of %q found %v, want nothing", path, found)
		}
	}
}
