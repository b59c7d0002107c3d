// Package schema handles descriptors of APIs as values: it packs them for a
// registry, reads them back, and compares two of them.
package schema

import (
	"cmp"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/onecall-dev/onecall/internal/quote"
	onecallv1 "github.com/onecall-dev/onecall/proto/onecall/v1"
	"github.com/onecall-dev/onecall/proto/sourceinfo"
)

// MaxBytes is the most that packed descriptors may have: etcd takes little more
// in one value.
const MaxBytes = 1 << 20

// Schema is an API's descriptor, and the comments of its .proto. It never
// changes, and is safe for all goroutines.
type Schema struct {
	// Service is the descriptor.
	Service protoreflect.ServiceDescriptor
	// Types makes messages of the descriptor's types.
	Types Types

	comments func(path string) *descriptorpb.SourceCodeInfo
	digest   string
	// bare makes the schema without expressions, once; nil of one that is linked
	// into the program.
	bare func() (*Schema, error)
}

// PublishedDigest returns the digest of the descriptors that the schema was
// unpacked from, "" of one that is linked into the program. It is that which
// [Digest] returned where they were packed.
func (s *Schema) PublishedDigest() string { return s.digest }

// Types finds types of messages and of extensions.
type Types interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// Of returns the schema of a service that is linked into the program.
func Of(service protoreflect.ServiceDescriptor) *Schema {
	return &Schema{Service: service, Types: protoregistry.GlobalTypes, comments: sourceinfo.Find}
}

// Comment returns the comment of a part of the schema, "" when there is none.
func (s *Schema) Comment(part protoreflect.Descriptor) string {
	file := part.ParentFile()
	info := s.comments(file.Path())
	if info == nil {
		return ""
	}
	path := pathOf(part)
	for _, location := range info.GetLocation() {
		if equal(location.GetPath(), path) {
			return strings.TrimSpace(location.GetLeadingComments() + "\n" + location.GetTrailingComments())
		}
	}
	return ""
}

func equal(a, b []int32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// The numbers of descriptor.proto by which a location is addressed.
const (
	fileMessages, fileEnums, fileServices        = 4, 5, 6
	messageFields, messageMessages, messageEnums = 2, 3, 4
	messageOneofs                                = 8
	serviceMethods, enumValues                   = 2, 2
)

// pathOf returns the address of a part in its file.
func pathOf(part protoreflect.Descriptor) []int32 {
	parent := part.Parent()
	if parent == nil {
		return nil
	}
	_, inMessage := parent.(protoreflect.MessageDescriptor)
	kind := int32(0)
	switch part.(type) {
	case protoreflect.ServiceDescriptor:
		kind = fileServices
	case protoreflect.MethodDescriptor:
		kind = serviceMethods
	case protoreflect.MessageDescriptor:
		kind = fileMessages
		if inMessage {
			kind = messageMessages
		}
	case protoreflect.EnumDescriptor:
		kind = fileEnums
		if inMessage {
			kind = messageEnums
		}
	case protoreflect.EnumValueDescriptor:
		kind = enumValues
	case protoreflect.OneofDescriptor:
		kind = messageOneofs
	case protoreflect.FieldDescriptor:
		kind = messageFields
	}
	return append(pathOf(parent), kind, int32(part.Index())) //nolint:gosec // an index in a file
}

// closure returns a file and all that it imports, in the order in which they can
// be read, but for those that every program of this module links.
func closure(file protoreflect.FileDescriptor) []protoreflect.FileDescriptor {
	var files []protoreflect.FileDescriptor
	seen := make(map[string]bool)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] || linked(file.Path()) {
			return
		}
		seen[file.Path()] = true
		imports := file.Imports()
		for i := range imports.Len() {
			add(imports.Get(i).FileDescriptor)
		}
		files = append(files, file)
	}
	add(file)
	return files
}

// always are the files that every program of this module links, since this package
// does.
var always = func() map[string]protoreflect.FileDescriptor {
	files := make(map[string]protoreflect.FileDescriptor)
	for _, file := range []protoreflect.FileDescriptor{
		anypb.File_google_protobuf_any_proto, descriptorpb.File_google_protobuf_descriptor_proto, durationpb.File_google_protobuf_duration_proto,
		emptypb.File_google_protobuf_empty_proto, fieldmaskpb.File_google_protobuf_field_mask_proto, structpb.File_google_protobuf_struct_proto,
		timestamppb.File_google_protobuf_timestamp_proto, wrapperspb.File_google_protobuf_wrappers_proto,
		validate.File_buf_validate_validate_proto, onecallv1.File_onecall_v1_options_proto,
	} {
		files[file.Path()] = file
	}
	return files
}()

// linked reports whether every program of this module links a file.
func linked(path string) bool { return always[path] != nil }

// Digest returns a text that is equal for equal definitions, whatever their
// comments: 22 characters of base64url.
func Digest(service protoreflect.ServiceDescriptor) (string, error) {
	digest := newDigest()
	for _, file := range closure(service.ParentFile()) {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(protodesc.ToFileDescriptorProto(file))
		if err != nil {
			return "", err
		}
		digest.add(data)
	}
	return digest.sum(string(service.FullName())), nil
}

// Pack returns the descriptors, with their comments, compressed; without comments
// when they would be too many with them.
func (s *Schema) Pack() (string, error) {
	var tooLarge error
	for _, comments := range []bool{true, false} {
		var data []byte
		var err error
		data, tooLarge, err = s.encode(comments)
		if err != nil {
			return "", err
		}
		if tooLarge != nil {
			continue
		}
		packed, err := compress(data)
		if err != nil || len(packed) <= MaxBytes {
			return packed, err
		}
		tooLarge = fmt.Errorf("have %d bytes, compressed: %d fit into a registry", len(packed), MaxBytes)
	}
	return "", fmt.Errorf("the descriptors of %s %w; part its .proto files", s.Service.FullName(), tooLarge)
}

// encode returns the descriptors as bytes, and whether readers take that many.
func (s *Schema) encode(comments bool) (data []byte, tooLarge, err error) {
	set := &descriptorpb.FileDescriptorSet{}
	for _, file := range closure(s.Service.ParentFile()) {
		if file.IsPlaceholder() {
			return nil, nil, fmt.Errorf("%s is imported and not linked into the program%s", file.Path(), importRemedy(file.Path()))
		}
		described := protodesc.ToFileDescriptorProto(file)
		if comments {
			described.SourceCodeInfo = s.comments(file.Path())
		}
		set.File = append(set.File, described)
	}
	data, err = proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		return nil, nil, err
	}
	return data, cmp.Or(checkSize(data), checkNames(set)), nil
}

// compress compresses bytes.
func compress(data []byte) (string, error) {
	var out strings.Builder
	compressor, err := flate.NewWriter(&out, flate.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := compressor.Write(data); err != nil {
		return "", err
	}
	err = compressor.Close()
	return out.String(), err
}

// Unpack reads what Pack returned of a service. Its input may be anything: it
// takes some 50 MB of memory and 0.15 s of CPU time: see BenchmarkUnpackTheLargest.
func Unpack(packed, service string) (*Schema, error) {
	if len(packed) > MaxBytes {
		return nil, fmt.Errorf("descriptors of %s: %d bytes are more than %d", quote.Line(service, quote.TextLimit), len(packed), MaxBytes)
	}
	unpacked, err := unpack(packed, service)
	if err != nil {
		// The text is the publisher's.
		return nil, fmt.Errorf("descriptors of %s: %s", quote.Line(service, quote.TextLimit), quote.Line(err.Error(), maxErrorBytes))
	}
	return unpacked, nil
}

// maxErrorBytes is the most that an error shows of what is wrong with descriptors.
const maxErrorBytes = 500

func unpack(packed, service string) (*Schema, error) {
	data, err := io.ReadAll(io.LimitReader(flate.NewReader(strings.NewReader(packed)), maxUnpacked+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be unpacked: %w", err)
	}
	if err := checkSize(data); err != nil {
		return nil, err
	}
	unpacked, err := read(data, service, func(*descriptorpb.FileDescriptorSet) {})
	if err != nil {
		return nil, err
	}
	unpacked.bare = sync.OnceValues(func() (*Schema, error) { return read(data, service, dropExpressions) })
	return unpacked, nil
}

// read makes the schema of descriptors, as bytes, which change may change before.
func read(data []byte, service string, change func(*descriptorpb.FileDescriptorSet)) (*Schema, error) {
	set := &descriptorpb.FileDescriptorSet{}
	if err := (proto.UnmarshalOptions{Resolver: protoregistry.GlobalTypes}).Unmarshal(data, set); err != nil {
		return nil, err
	}
	if err := checkNames(set); err != nil {
		return nil, err
	}
	change(set)
	files, comments, err := build(set)
	if err != nil {
		return nil, err
	}
	found, err := files.FindDescriptorByName(protoreflect.FullName(service))
	descriptor, ok := found.(protoreflect.ServiceDescriptor)
	if err != nil || !ok {
		return nil, errors.New("the service is not among them")
	}
	return &Schema{
		Service:  descriptor,
		Types:    types{dynamicpb.NewTypes(files)},
		comments: func(path string) *descriptorpb.SourceCodeInfo { return comments[path] },
		digest:   digestOf(data, service),
	}, nil
}

// testFiles is the folder of protobuf-go's own tests, whose files protodesc lets
// have any edition, which it then may end the process for.
const testFiles = "cmd/protoc-gen-go/testdata/"

// build makes the files of a set, and returns their comments by path.
func build(set *descriptorpb.FileDescriptorSet) (files *protoregistry.Files, comments map[string]*descriptorpb.SourceCodeInfo, err error) {
	defer func() {
		// What comes from a registry must not end a process, whatever protodesc
		// thinks of it.
		if cause := recover(); cause != nil {
			err = fmt.Errorf("cannot be read: %v", cause)
		}
	}()
	files, comments = new(protoregistry.Files), make(map[string]*descriptorpb.SourceCodeInfo)
	for _, described := range set.GetFile() {
		if strings.HasPrefix(described.GetName(), testFiles) {
			return nil, nil, fmt.Errorf("file %s has the name of one of protobuf-go's own tests", described.GetName())
		}
		comments[described.GetName()] = described.GetSourceCodeInfo()
		described.SourceCodeInfo = nil // ours has no spans, which NewFile would want
		file, err := protodesc.NewFile(described, both{files})
		if err != nil {
			return nil, nil, err
		}
		if err := files.RegisterFile(file); err != nil {
			return nil, nil, err
		}
	}
	return files, comments, nil
}

// types finds types among those that were unpacked, and those of the files that
// every program links.
type types struct{ *dynamicpb.Types }

// FindMessageByName implements [protoregistry.MessageTypeResolver].
func (t types) FindMessageByName(name protoreflect.FullName) (protoreflect.MessageType, error) {
	if found, err := t.Types.FindMessageByName(name); err == nil {
		return found, nil
	}
	return own(protoregistry.GlobalTypes.FindMessageByName(name))
}

// FindMessageByURL implements [protoregistry.MessageTypeResolver].
func (t types) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if found, err := t.Types.FindMessageByURL(url); err == nil {
		return found, nil
	}
	return own(protoregistry.GlobalTypes.FindMessageByURL(url))
}

// own lets through what every program links.
func own(found protoreflect.MessageType, err error) (protoreflect.MessageType, error) {
	if err != nil || !linked(found.Descriptor().ParentFile().Path()) {
		return nil, protoregistry.NotFound
	}
	return found, nil
}

// both finds files among those that were unpacked, and those that every program
// links.
type both struct{ *protoregistry.Files }

// FindFileByPath implements [protodesc.Resolver].
func (b both) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	if linked(path) {
		return protoregistry.GlobalFiles.FindFileByPath(path)
	}
	return b.Files.FindFileByPath(path)
}

// FindDescriptorByName implements [protodesc.Resolver].
func (b both) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if found, err := b.Files.FindDescriptorByName(name); err == nil {
		return found, nil
	}
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil || !linked(found.ParentFile().Path()) {
		return nil, protoregistry.NotFound
	}
	return found, nil
}

// optionsPath is the path that onecall's generated code is registered under.
const optionsPath = "onecall/v1/options.proto"

// importRemedy returns what to do about an imported file that is not linked in,
// such as one that the .proto files import by another path than its Go code has.
func importRemedy(path string) string {
	if strings.HasSuffix(path, "/"+optionsPath) {
		return ": import it as \"" + optionsPath + "\", with the folder above onecall/ as an import path"
	}
	return ": import it by the path that its Go code was generated with, and link that code in"
}
