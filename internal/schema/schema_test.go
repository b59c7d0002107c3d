package schema_test

import (
	"bytes"
	"compress/flate"
	"math/rand/v2"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/onecall-dev/onecall/internal/contract"
	"github.com/onecall-dev/onecall/internal/schema"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// services returns all services that are linked into this test.
func services() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			all = append(all, file.Services().Get(i))
		}
		return true
	})
	return all
}

var echo = testv1.File_onecall_test_v1_echo_proto.Services().ByName("EchoService")

func TestASchemaIsUnpackedAsItWasPacked(t *testing.T) {
	t.Parallel()
	if len(services()) < 4 {
		t.Fatalf("only %d services are linked in", len(services()))
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
		want, err := contract.FromDescriptor(service)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := contract.FromDescriptor(unpacked.Service); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("the contract is %+v (%v), want %+v", got, err, want)
		}
		first, err := schema.Digest(service)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := schema.Digest(unpacked.Service); err != nil || second != first || len(first) != 22 {
			t.Errorf("%s: the digests are %q and %q (%v)", service.FullName(), first, second, err)
		}
		for _, pair := range [][2]protoreflect.ServiceDescriptor{{service, service}, {service, unpacked.Service}, {unpacked.Service, service}} {
			if found := schema.Compare(want.Name, pair[0], pair[1]); len(found) != 0 {
				t.Errorf("%s differs from itself: %v", service.FullName(), found)
			}
		}
		if method := service.Methods().Get(0); unpacked.Comment(unpacked.Service.Methods().Get(0)) != schema.Of(service).Comment(method) {
			t.Errorf("%s: the comment is lost", method.FullName())
		}
		if _, err := unpacked.Types.FindMessageByName(service.Methods().Get(0).Input().FullName()); err != nil {
			t.Errorf("%s: no type of its request: %v", service.FullName(), err)
		}
	}
}

func TestCommentsAreThoseOfTheSource(t *testing.T) {
	t.Parallel()
	message := testv1.File_onecall_test_v1_echo_proto.Messages().ByName("EchoRequest")
	for part, want := range map[protoreflect.Descriptor]string{
		echo:                                   "EchoService answers with what it was sent, in each of gRPC's four shapes.",
		echo.Methods().Get(0):                  "Echo has the API's timeout.",
		message:                                "EchoRequest is the request of Echo.",
		message.Fields().Get(0):                "What to answer with.",
		testv1.File_onecall_test_v1_echo_proto: "",
	} {
		t.Run(string(part.FullName()), func(t *testing.T) {
			if got := schema.Of(echo).Comment(part); got != want {
				t.Errorf("the comment of %s is %q, want %q", part.FullName(), got, want)
			}
		})
	}
}

func TestADigestIsThatOfTheDefinition(t *testing.T) {
	t.Parallel()
	before, err := schema.Digest(echo)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*descriptorpb.FileDescriptorProto){
		"nothing": func(*descriptorpb.FileDescriptorProto) {},
		"a field": func(file *descriptorpb.FileDescriptorProto) { file.MessageType[0].Field[0].Name = new("other") },
	} {
		t.Run(name, func(t *testing.T) {
			after, err := schema.Digest(edited(t, change))
			if err != nil || (after == before) != (name == "nothing") {
				t.Errorf("when %s changed the digest went from %s to %s (%v)", name, before, after, err)
			}
		})
	}
}

// edited returns EchoService after a change of its .proto file.
func edited(t *testing.T, change func(*descriptorpb.FileDescriptorProto)) protoreflect.ServiceDescriptor {
	t.Helper()
	described := protodesc.ToFileDescriptorProto(testv1.File_onecall_test_v1_echo_proto)
	change(described)
	file, err := protodesc.NewFile(described, protoregistry.GlobalFiles)
	if err != nil {
		t.Fatal(err)
	}
	return file.Services().Get(0)
}

// compress packs bytes that need not be valid descriptors.
func compress(tb testing.TB, data []byte) string {
	tb.Helper()
	var out bytes.Buffer
	compressor, err := flate.NewWriter(&out, flate.BestSpeed)
	if err != nil {
		tb.Fatal(err)
	}
	_, _ = compressor.Write(data)
	_ = compressor.Close()
	return out.String()
}

func TestBadDescriptorsAreErrors(t *testing.T) {
	// Not parallel: it measures allocated memory.
	good, err := schema.Of(echo).Pack()
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, dependency ...string) *descriptorpb.FileDescriptorProto {
		return &descriptorpb.FileDescriptorProto{Name: new(name), Syntax: new("proto3"), Dependency: dependency}
	}
	set := func(files ...*descriptorpb.FileDescriptorProto) string {
		data, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: files})
		if err != nil {
			t.Fatal(err)
		}
		return compress(t, data)
	}
	anyEdition := func(number int32) string {
		file := file("cmd/protoc-gen-go/testdata/a.proto")
		file.Syntax, file.Edition = new("editions"), descriptorpb.Edition(number).Enum()
		return set(file)
	}
	// parts returns a file of about size bytes that repeats one part.
	parts := func(size int, part string) string {
		inner := strings.Repeat(part, size/len(part))
		return compress(t, append(protowire.AppendTag(nil, 1, protowire.BytesType), protowire.AppendString(nil, inner)...))
	}
	message := string(protowire.AppendString([]byte{0x22}, strings.Repeat("\x12\x00", 1<<20)))
	options := string(protowire.AppendString([]byte{0x42}, string(protowire.AppendString(
		protowire.AppendTag(nil, 1159, protowire.BytesType), strings.Repeat("\xba\x01\x00", 1<<20)))))
	nested := ""
	for range 1 << 10 {
		nested = string(protowire.AppendString([]byte{0x1a}, nested))
	}
	for name, packed := range map[string]string{
		"millions of messages":            parts(8<<20, "\x22\x00"),
		"millions of imports":             parts(8<<20, "\x1a\x00"),
		"millions of fields":              parts(len(message), message),
		"millions of rules":               parts(6<<20, string(protowire.AppendString([]byte{0x22}, string(protowire.AppendString([]byte{0x12}, options))))),
		"messages without end":            parts(4<<10, string(protowire.AppendString([]byte{0x22}, nested))),
		"an edition that nobody knows":    anyEdition(99998),
		"no edition":                      anyEdition(0),
		"nothing":                         "",
		"not compressed":                  "descriptors",
		"cut off":                         good[:len(good)/2],
		"no descriptors":                  compress(t, []byte("\xff\xff")),
		"a bomb":                          compress(t, make([]byte, 64<<20)),
		"too large":                       strings.Repeat("x", schema.MaxBytes+1),
		"no such service":                 set(file("a.proto")),
		"an import that is none":          set(file("a.proto", "b.proto")),
		"an import of itself":             set(file("a.proto", "a.proto")),
		"the same file twice":             set(file("a.proto"), file("a.proto")),
		"a file without a name":           set(file("")),
		"an import of this program's own": set(file("a.proto", "onecall/test/v1/echo.proto")),
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			unpacked, err := schema.Unpack(packed, "a.Service")
			runtime.ReadMemStats(&after)
			if err == nil || unpacked != nil {
				t.Errorf("%s: %v, %v, want an error", name, unpacked, err)
			}
			if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 200 {
				t.Errorf("%s: took %d MB", name, took)
			}
		})
	}
	if _, err := schema.Unpack(good, "another.Service"); err == nil {
		t.Error("a service that is not among the descriptors is no error")
	}
}

// TestDamagedDescriptorsAreErrorsOrDescriptors changes bytes of valid descriptors.
func TestDamagedDescriptorsAreErrorsOrDescriptors(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	draw := rand.New(rand.NewPCG(seed, 0))
	const times, changes = 300, 4
	for _, service := range services() {
		good, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(service.ParentFile())}})
		if err != nil {
			t.Fatal(err)
		}
		usable := 0
		for range times {
			data := bytes.Clone(good)
			for range 1 + draw.IntN(changes) {
				data[draw.IntN(len(data))] = byte(draw.IntN(256))
			}
			unpacked, err := schema.Unpack(compress(t, data), string(service.FullName()))
			if err != nil {
				continue
			}
			usable++
			if _, err := schema.Digest(unpacked.Service); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			if found := schema.Compare("api", unpacked.Service, unpacked.Service); len(found) != 0 {
				t.Errorf("seed %d: a service differs from itself: %v", seed, found)
			}
		}
		if usable == 0 || usable == times {
			t.Errorf("seed %d: of %d damaged descriptors %d are usable: this test shows nothing", seed, times, usable)
		}
	}
}

// TestTypesOfProtobufsOwnAreFoundBesideAPublishedSchema finds the types of messages in an Any.
func TestTypesOfProtobufsOwnAreFoundBesideAPublishedSchema(t *testing.T) {
	t.Parallel()
	packed, err := schema.Of(echo).Pack()
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := schema.Unpack(packed, string(echo.FullName()))
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]bool{
		"type.googleapis.com/google.protobuf.Duration": true, "x/onecall.test.v1.EchoRequest": true, "x/onecall.test.v1.Kinds": false,
	} {
		t.Run(url, func(t *testing.T) {
			if _, err := unpacked.Types.FindMessageByURL(url); (err == nil) != want {
				t.Errorf("%s: %v", url, err)
			}
		})
	}
}

// FuzzUnpack unpacks any bytes that an instance may publish.
func FuzzUnpack(f *testing.F) {
	for _, service := range services() {
		data, err := proto.Marshal(&descriptorpb.FileDescriptorSet{File: []*descriptorpb.FileDescriptorProto{protodesc.ToFileDescriptorProto(service.ParentFile())}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, string(service.FullName()))
	}
	f.Fuzz(func(t *testing.T, data []byte, service string) {
		unpacked, err := schema.Unpack(compress(t, data), service)
		if err != nil {
			return
		}
		if _, err := schema.Digest(unpacked.Service); err != nil {
			t.Error(err)
		}
		if found := schema.Compare("api", unpacked.Service, unpacked.Service); len(found) != 0 {
			t.Errorf("a service differs from itself: %v", found)
		}
	})
}

func BenchmarkSchema(b *testing.B) {
	packed, err := schema.Of(echo).Pack()
	if err != nil {
		b.Fatal(err)
	}
	for name, do := range map[string]func(){
		"Pack":    func() { _, _ = schema.Of(echo).Pack() },
		"Digest":  func() { _, _ = schema.Digest(echo) },
		"Unpack":  func() { _, _ = schema.Unpack(packed, string(echo.FullName())) },
		"Compare": func() { schema.Compare("test.echo", echo, echo) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				do()
			}
			b.ReportMetric(float64(len(packed)), "packed-bytes")
		})
	}
}

func TestAnImportByAnotherPathIsNamedWithItsRemedy(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"proto/onecall/v1/options.proto": `proto/onecall/v1/options.proto is imported and not linked into the program: import it as "onecall/v1/options.proto", with the folder above onecall/ as an import path`,
		"other/shared.proto":             "other/shared.proto is imported and not linked into the program: import it by the path that its Go code was generated with, and link that code in",
	} {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			file, err := protodesc.FileOptions{AllowUnresolvable: true}.New(&descriptorpb.FileDescriptorProto{
				Name: new("shop.proto"), Syntax: new("proto3"), Dependency: []string{path},
				Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("ShopService")}},
			}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := schema.Of(file.Services().Get(0)).Pack(); err == nil || err.Error() != want {
				t.Errorf("Pack = %v, want %s", err, want)
			}
		})
	}
}
