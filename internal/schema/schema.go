// Package schema packs the descriptors of APIs for a registry, reads them back, and
// compares two of them.
package schema

import (
	"cmp"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"slices"
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

// MaxBytes is the largest size of packed descriptors: etcd accepts little more in one
// value.
const MaxBytes = 1 << 20

// Schema is an API's descriptor, with the comments of its .proto file. It is immutable and
// safe for concurrent use.
type Schema struct {
	// Service is the descriptor.
	Service protoreflect.ServiceDescriptor
	// Types creates messages of the descriptor's types.
	Types Types

	comments func(path string) *descriptorpb.SourceCodeInfo
	digest   string
	// bare returns the schema without expressions and caches it. It is nil if the schema
	// is linked into the program.
	bare func() (*Schema, error)
}

// PublishedDigest returns the digest of the descriptors that the schema was unpacked from.
// It is equal to the result of [Digest] where they were packed. It is "" if the schema is
// linked into the program.
func (s *Schema) PublishedDigest() string { return s.digest }

// Types finds types of messages and extensions.
type Types interface {
	protoregistry.MessageTypeResolver
	protoregistry.ExtensionTypeResolver
}

// Of returns the schema of a service that is linked into the program.
func Of(service protoreflect.ServiceDescriptor) *Schema {
	return &Schema{Service: service, Types: protoregistry.GlobalTypes, comments: sourceinfo.Find}
}

// Compiled returns the schema of a service in compiled .proto files, which is only for
// [Schema.Pack]. comments returns those of a file.
func Compiled(service protoreflect.ServiceDescriptor, comments func(path string) *descriptorpb.SourceCodeInfo) *Schema {
	return &Schema{Service: service, Types: protoregistry.GlobalTypes, comments: comments}
}

// Comment returns the comment of a part of the schema, "" if there is none.
func (s *Schema) Comment(part protoreflect.Descriptor) string {
	file := part.ParentFile()
	info := s.comments(file.Path())
	if info == nil {
		return ""
	}
	path := pathOf(part)
	for _, location := range info.GetLocation() {
		if slices.Equal(location.GetPath(), path) {
			return strings.TrimSpace(location.GetLeadingComments() + "\n" + location.GetTrailingComments())
		}
	}
	return ""
}

// Field numbers in descriptor.proto, from which a location's path is made.
const (
	fileMessages, fileEnums, fileServices        = 4, 5, 6
	messageFields, messageMessages, messageEnums = 2, 3, 4
	messageOneofs                                = 8
	serviceMethods, enumValues                   = 2, 2
)

// pathOf returns the location path of a part in its file.
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

// closure returns a file and all files that it imports, imported files first. It omits the
// files that every program with this module links.
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

// always are the files that every program with this module links, because this package
// imports them.
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

// linked reports whether every program with this module links a file.
func linked(path string) bool { return always[path] != nil }

// Digest returns a text that is the same for the same definitions, whatever their
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

// Pack returns the compressed descriptors with their comments. It omits the comments if
// the result would be too large with them.
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

// encode returns the encoded descriptors. tooLarge is not nil if readers would refuse them.
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

// compress compresses data with DEFLATE.
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

// Unpack reads the result of Pack for a service. packed may be any bytes: Unpack takes at
// most about 50 MB of memory and 0.15 s of CPU time, see BenchmarkUnpackTheLargest.
func Unpack(packed, service string) (*Schema, error) {
	if len(packed) > MaxBytes {
		return nil, fmt.Errorf("descriptors of %s: %d bytes are more than %d", quote.Line(service, quote.TextLimit), len(packed), MaxBytes)
	}
	unpacked, err := unpack(packed, service)
	if err != nil {
		// The publisher chose the text.
		return nil, fmt.Errorf("descriptors of %s: %s", quote.Line(service, quote.TextLimit), quote.Line(err.Error(), maxErrorBytes))
	}
	return unpacked, nil
}

// maxErrorBytes bounds the part of an error text that says what is wrong with descriptors.
const maxErrorBytes = 500

func unpack(packed, service string) (*Schema, error) {
	data, err := io.ReadAll(io.LimitReader(flate.NewReader(strings.NewReader(packed)), maxUnpacked+1))
	if err != nil {
		return nil, fmt.Errorf("cannot be unpacked: %w", err)
	}
	if err := checkSize(data); err != nil {
		return nil, err
	}
	unpacked, err := read(data, service, func(protoreflect.Message) {})
	if err != nil {
		return nil, err
	}
	unpacked.bare = sync.OnceValues(func() (*Schema, error) { return read(data, service, dropExpressions) })
	return unpacked, nil
}

// read decodes descriptors and returns their schema. change may modify them first.
func read(data []byte, service string, change func(protoreflect.Message)) (*Schema, error) {
	set := &descriptorpb.FileDescriptorSet{}
	if err := (proto.UnmarshalOptions{Resolver: protoregistry.GlobalTypes}).Unmarshal(data, set); err != nil {
		return nil, err
	}
	if err := checkNames(set); err != nil {
		return nil, err
	}
	change(set.ProtoReflect())
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

// testFiles is the folder of protobuf-go's own tests. protodesc accepts any edition in
// files of this folder, and may then exit the process.
const testFiles = "cmd/protoc-gen-go/testdata/"

// build builds the files of a set, and returns their comments by path.
func build(set *descriptorpb.FileDescriptorSet) (files *protoregistry.Files, comments map[string]*descriptorpb.SourceCodeInfo, err error) {
	defer func() {
		// Content of a registry must not end the process, even if protodesc panics.
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
		described.SourceCodeInfo = nil // without spans, which NewFile requires
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

// types finds types in the unpacked files, and in the files that every program links.
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

// own returns only types that every program links.
func own(found protoreflect.MessageType, err error) (protoreflect.MessageType, error) {
	if err != nil || !linked(found.Descriptor().ParentFile().Path()) {
		return nil, protoregistry.NotFound
	}
	return found, nil
}

// both finds files among the unpacked ones, and among those that every program links.
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

// optionsPath is the path under which onecall's generated code is registered.
const optionsPath = "onecall/v1/options.proto"

// importRemedy returns what to do about an imported file that is not linked. Often the
// .proto files import it by another path than its Go code was generated with.
func importRemedy(path string) string {
	if strings.HasSuffix(path, "/"+optionsPath) {
		return ": import it as \"" + optionsPath + "\", with the folder above onecall/ as an import path"
	}
	return ": import it by the path that its Go code was generated with, and link that code in"
}
