// Package protoargstest has what the tests of both halves of protoargs need.
package protoargstest

import (
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/onecall-dev/onecall/internal/protoargs/encode"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// Foreign returns the schema of the test API as if it were from another program: none of its
// descriptors is linked into this one, not even those of protobuf itself.
func Foreign(tb testing.TB) (find func(name protoreflect.FullName) protoreflect.MessageDescriptor, types *dynamicpb.Types) {
	tb.Helper()
	set := &descriptorpb.FileDescriptorSet{}
	seen := make(map[string]bool)
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if seen[file.Path()] {
			return
		}
		seen[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	add(testv1.File_onecall_test_v1_kinds_proto)
	files, err := protodesc.NewFiles(set)
	if err != nil {
		tb.Fatal(err)
	}
	return func(name protoreflect.FullName) protoreflect.MessageDescriptor {
		desc, err := files.FindDescriptorByName(name)
		if err != nil {
			tb.Fatal(err)
		}
		message, ok := desc.(protoreflect.MessageDescriptor)
		if !ok {
			tb.Fatalf("%s is a %T", name, desc)
		}
		return message
	}, dynamicpb.NewTypes(files)
}

// AnyOf returns an Any with a message.
func AnyOf(tb testing.TB, m proto.Message) *anypb.Any {
	tb.Helper()
	packed, err := anypb.New(m)
	if err != nil {
		tb.Fatal(err)
	}
	return packed
}

// SameOnTheWire compares messages of one full name, whatever their Go types.
func SameOnTheWire(tb testing.TB, got, want proto.Message) {
	tb.Helper()
	data, err := proto.Marshal(got)
	if err != nil {
		tb.Fatal(err)
	}
	read := want.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(data, read); err != nil {
		tb.Fatal(err)
	}
	if !proto.Equal(read, want) {
		tb.Errorf("got %v\nwant %v", read, want)
	}
}

// FitToPrint checks what is true for the error of all arguments.
func FitToPrint(tb testing.TB, bad *encode.ArgumentError) {
	tb.Helper()
	text := bad.Error()
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' }) || len(text) > 25_000 {
		tb.Errorf("the error is not fit to print: %q", text)
	}
	if len(bad.Problems) == 0 || len(bad.Problems) > 20 {
		tb.Errorf("the error has %d problems", len(bad.Problems))
	}
	got := status.Convert(bad)
	if got.Code() != codes.InvalidArgument || len(got.Details()) != 1 {
		tb.Fatalf("the status is %v with %v", got.Code(), got.Details())
	}
	detail, ok := got.Details()[0].(*errdetails.BadRequest)
	if !ok || len(detail.GetFieldViolations()) != len(bad.Problems) {
		tb.Fatalf("the detail is %v", got.Details()[0])
	}
	for i, violation := range detail.GetFieldViolations() {
		problem := bad.Problems[i]
		if violation.GetField() != problem.Path || violation.GetDescription() != problem.Text || violation.GetReason() != string(problem.Kind) {
			tb.Errorf("violation %v is not %v", violation, problem)
		}
	}
}
