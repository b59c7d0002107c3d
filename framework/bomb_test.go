package framework_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"net"
	"runtime"
	"testing"

	_ "google.golang.org/grpc/encoding/gzip"

	"github.com/onecall-dev/onecall/discovery/memory"
	testv1 "github.com/onecall-dev/onecall/internal/testproto/onecall/test/v1"
)

// TestACompressedBombIsRefused sends messages of 40 MB that are 40 KB when they are
// compressed. It is not parallel, because it counts what is allocated.
func TestACompressedBombIsRefused(t *testing.T) {
	const size, bombs, most = 40 << 20, 8, 20 << 20
	var packed bytes.Buffer
	writer := gzip.NewWriter(&packed)
	zeros := make([]byte, 1<<20)
	for range size / len(zeros) {
		if _, err := writer.Write(zeros); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	registry := memory.New()
	serve(t, registry, &echo{soon: func(context.Context, string) (string, error) {
		t.Error("the handler ran")
		return "", nil
	}})
	address := serving(t, registry, 1)[0].Address
	frame := append(binary.BigEndian.AppendUint32([]byte{1}, uint32(packed.Len())), packed.Bytes()...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range bombs {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		client := newRaw(t, conn)
		stream := client.begin(testv1.EchoService_EchoSoon_FullMethodName, "grpc-encoding", "gzip")
		for rest := frame; len(rest) > 0; {
			some := rest[:min(len(rest), 16<<10)]
			rest = rest[len(some):]
			client.check(client.framer.WriteData(stream, len(rest) == 0, some))
		}
		if trailers := client.trailers(stream); trailers["grpc-status"] != "8" {
			t.Fatalf("the call ended with %v, want RESOURCE_EXHAUSTED", trailers)
		}
	}
	runtime.ReadMemStats(&after)
	if took := (after.TotalAlloc - before.TotalAlloc) / bombs; took > most {
		t.Errorf("a bomb took %d bytes of memory, want %d at most", took, most)
	}
}
