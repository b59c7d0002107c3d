package inprocess

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	protobuf "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// counting is a codec that a program has registered in the place of grpc-go's.
type counting struct {
	encoding.CodecV2

	marshaled, unmarshaled int
}

func (c *counting) Marshal(message any) (mem.BufferSlice, error) {
	c.marshaled++
	return c.CodecV2.Marshal(message)
}

func (c *counting) Unmarshal(data mem.BufferSlice, message any) error {
	c.unmarshaled++
	return c.CodecV2.Unmarshal(data, message)
}

// TestMessagesAreEncodedAsTheCodecDoes has messages of all sizes pass, of which the codec
// makes the same bytes or the same error.
func TestMessagesAreEncodedAsTheCodecDoes(t *testing.T) {
	t.Parallel()
	grpcs := encoding.GetCodecV2(proto.Name)
	own := &counting{CodecV2: grpcs}
	messages := map[string]any{
		"small":         wrapperspb.String("text"),
		"empty":         wrapperspb.String(""),
		"large":         wrapperspb.String(strings.Repeat("x", 100<<10)),
		"not UTF-8":     wrapperspb.String("\xff"),
		"no message":    "text",
		"a nil message": (*wrapperspb.StringValue)(nil),
	}
	for whose, codec := range map[string]encoding.CodecV2{"grpc-go's": grpcs, "the program's": own} {
		server := &Server{codec: codec, plainCodec: isOfGRPC(codec)}
		if server.plainCodec != (codec == grpcs) {
			t.Errorf("%s codec is taken for the other", whose)
		}
		for title, message := range messages {
			want, wantErr := grpcs.Marshal(message)
			data, err := server.encode(message)
			if (err == nil) != (wantErr == nil) || err != nil && !strings.HasSuffix(err.Error(), wantErr.Error()) {
				t.Errorf("%s, %s codec: encode returned %v, want %v", title, whose, err, wantErr)
			}
			if err != nil {
				continue
			}
			if data.size() != want.Len() {
				t.Errorf("%s, %s codec: %d bytes, want %d", title, whose, data.size(), want.Len())
			}
			read := new(wrapperspb.StringValue)
			if sent, _ := message.(*wrapperspb.StringValue); server.decode(data, math.MaxInt, read) != nil || read.GetValue() != sent.GetValue() {
				t.Errorf("%s, %s codec: another message arrived", title, whose)
			}
		}
		data, err := server.encode(messages["small"])
		if err != nil {
			t.Fatal(err)
		}
		if err := server.decode(data, protobuf.Size(wrapperspb.String("text"))-1, new(wrapperspb.StringValue)); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("a message above the limit: %v", err)
		}
	}
	if own.marshaled != len(messages)+1 || own.unmarshaled != len(messages)-2 {
		t.Errorf("the program's codec encoded %d messages and decoded %d", own.marshaled, own.unmarshaled)
	}
}

// TestAMessageNeedsNoBufferOfItsOwn counts the allocations of a small message.
func TestAMessageNeedsNoBufferOfItsOwn(t *testing.T) { //nolint:paralleltest // AllocsPerRun counts those of all goroutines
	codec := encoding.GetCodecV2(proto.Name)
	server, message, read := &Server{codec: codec, plainCodec: isOfGRPC(codec)}, wrapperspb.Bytes(nil), new(wrapperspb.BytesValue)
	allocations := testing.AllocsPerRun(1000, func() {
		data, err := server.encode(message)
		if err != nil || server.decode(data, math.MaxInt, read) != nil {
			t.Error(err)
		}
	})
	if allocations >= 1 {
		t.Errorf("a message costs %v allocations", allocations)
	}
}
