package schema_test

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/schema"
)

// setOf packs files. The last one declares the service a.Service.
func setOf(tb testing.TB, files ...*descriptorpb.FileDescriptorProto) string {
	tb.Helper()
	data, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: files})
	if err != nil {
		tb.Fatal(err)
	}
	return compress(tb, data)
}

// message returns a message nested depth deep. Each name has about name bytes, and the
// innermost message has so many fields.
func message(depth, name, fields int) *descriptorpb.DescriptorProto {
	out := &descriptorpb.DescriptorProto{Name: new("M" + strings.Repeat("m", name))}
	if depth > 1 {
		out.NestedType = append(out.NestedType, message(depth-1, name, fields))
		return out
	}
	for i := range fields {
		out.Field = append(out.Field, &descriptorpb.FieldDescriptorProto{
			Name: new(fmt.Sprintf("f%d", i)), Number: new(int32(i + 1)),
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_BOOL.Enum(),
		})
	}
	return out
}

// Any client may have written the content of a registry. Each of these cases fits into one
// value of etcd. Without bounds, they would use from 200 MB to the whole memory, or would not
// end.
func TestDescriptorsThatTakeFarMoreMemoryThanBytesAreRefused(t *testing.T) {
	// Not parallel: it measures allocated memory.
	service := &descriptorpb.FileDescriptorProto{
		Name: new("a.proto"), Package: new("a"), Syntax: new("proto3"),
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("Service")}},
	}
	with := func(edit func(file *descriptorpb.FileDescriptorProto)) *descriptorpb.FileDescriptorProto {
		edited := proto.CloneOf(service)
		edit(edited)
		return edited
	}
	// Each file imports the two before it publicly. The number of paths from the last to
	// the first file is a Fibonacci number.
	chain := []*descriptorpb.FileDescriptorProto{{Name: new("p0")}, {Name: new("p1")}}
	for i := 2; i < 200; i++ {
		chain = append(chain, &descriptorpb.FileDescriptorProto{
			Name:       new(fmt.Sprintf("p%d", i)),
			Dependency: []string{fmt.Sprintf("p%d", i-1), fmt.Sprintf("p%d", i-2)}, PublicDependency: []int32{0, 1},
		})
	}
	for _, test := range []struct {
		name, want string
		packed     string
	}{
		{"99,500 messages of one field", "parts", setOf(t, with(func(file *descriptorpb.FileDescriptorProto) {
			for i := range 99_500 {
				file.MessageType = append(file.MessageType, message(1, 0, 1))
				file.MessageType[i].Name = new(fmt.Sprintf("M%d", i))
			}
		}))},
		{"fields of a package with a long name", "names", setOf(t, with(func(file *descriptorpb.FileDescriptorProto) {
			file.Package = new(strings.Repeat("a", 1<<20))
			file.MessageType = append(file.MessageType, message(1, 0, 10_000))
		}))},
		{"fields of long names within each other", "names", setOf(t, with(func(file *descriptorpb.FileDescriptorProto) {
			file.MessageType = append(file.MessageType, message(40, 50_000, 5_000))
		}))},
		{"public imports of public imports", "imports", setOf(t, append(chain, with(func(file *descriptorpb.FileDescriptorProto) {
			file.Dependency = []string{"p199"}
		}))...)},
		{"5 MiB of a comment", "not compressed", setOf(t, with(func(file *descriptorpb.FileDescriptorProto) {
			file.SourceCodeInfo = &descriptorpb.SourceCodeInfo{Location: []*descriptorpb.SourceCodeInfo_Location{{LeadingComments: new(strings.Repeat("a", 5<<20))}}}
		}))},
	} {
		t.Run(test.name, func(t *testing.T) {
			if len(test.packed) > schema.MaxBytes {
				t.Fatalf("it has %d bytes, and is refused for that", len(test.packed))
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := schema.Unpack(test.packed, "a.Service")
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Unpack = %.300v, want an error of its %s", err, test.want)
			}
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 64 {
				t.Errorf("it took %d MB", took)
			}
		})
	}
}

func TestNothingOfDescriptorsMakesAnErrorLongOrMultiLine(t *testing.T) {
	t.Parallel()
	long := "a\nERROR forged" + strings.Repeat("x", 100_000)
	for title, file := range map[string]*descriptorpb.FileDescriptorProto{
		"a file's name":    {Name: new("cmd/protoc-gen-go/testdata/" + long)},
		"an import":        {Name: new("a.proto"), Dependency: []string{long}},
		"a package":        {Name: new("a.proto"), Package: new(long)},
		"a syntax":         {Name: new("a.proto"), Syntax: new(long)},
		"a message's name": {Name: new("a.proto"), MessageType: []*descriptorpb.DescriptorProto{{Name: new(long)}}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			_, err := schema.Unpack(setOf(t, file), long)
			if err == nil || len(err.Error()) > 1500 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("Unpack = %.300q", fmt.Sprint(err))
			}
		})
	}
}

// A difference shows names of the other program's schema. They may be as long and as many as
// descriptors allow.
func TestDifferencesAreFewAndShort(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	other := edited(t, func(file *descriptorpb.FileDescriptorProto) {
		request := file.GetMessageType()[0]
		request.Field[0].Name = new(long)
		for i := range 10_000 {
			request.Field = append(request.Field, &descriptorpb.FieldDescriptorProto{
				Name: new(fmt.Sprintf("added_%d", i)), Number: new(int32(100 + i)),
				Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(), Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(),
			})
		}
	})
	found := schema.Compare("test.echo", echo, other)
	if len(found) == 0 || len(found) > schema.MaxDifferences {
		t.Fatalf("%d differences, want some, %d at most", len(found), schema.MaxDifferences)
	}
	for _, difference := range found {
		if text := difference.String(); len(text) > 1000 {
			t.Fatalf("a difference has %d bytes: %.200s", len(text), text)
		}
	}
}

// A reader of descriptors may know fewer options than their publisher.
func TestTheDigestIsThatOfThePublisherWhateverOptionsAreKnown(t *testing.T) {
	t.Parallel()
	file := protodesc.ToFileDescriptorProto(echo.ParentFile())
	// The publisher knows option 1001, and so encodes it before the option for rules. Here
	// it is unknown, and would be encoded after that option.
	options := &descriptorpb.FieldOptions{}
	raw := protowire.AppendVarint(protowire.AppendTag(nil, 1001, protowire.VarintType), 1)
	raw = protowire.AppendBytes(protowire.AppendTag(raw, 1159, protowire.BytesType), nil)
	options.ProtoReflect().SetUnknown(raw)
	file.MessageType[0].Field[0].Options = options
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	hash := sha256.New()
	_, _ = fmt.Fprintf(hash, "%d:%s%s", len(data), data, echo.FullName())
	want := base64.RawURLEncoding.EncodeToString(hash.Sum(nil)[:16])
	published, err := schema.Unpack(setOf(t, file), string(echo.FullName()))
	if err != nil {
		t.Fatal(err)
	}
	if published.PublishedDigest() != want {
		t.Errorf("the digest is %q, want %q", published.PublishedDigest(), want)
	}
	if here, err := schema.Digest(published.Service); err != nil || here == want {
		t.Errorf("the digest as written here is %q (%v): this test shows nothing", here, err)
	}
	for _, service := range services() {
		packed, err := schema.Of(service).Pack()
		if err != nil {
			t.Fatal(err)
		}
		unpacked, err := schema.Unpack(packed, string(service.FullName()))
		if err != nil {
			t.Fatal(err)
		}
		if want, err := schema.Digest(service); err != nil || unpacked.PublishedDigest() != want {
			t.Errorf("%s: the digest of what was unpacked is %q, want %q (%v)", service.FullName(), unpacked.PublishedDigest(), want, err)
		}
	}
}
