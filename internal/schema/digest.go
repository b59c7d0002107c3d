package schema

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
)

// digestBytes is the number of bytes of the hash that are in a digest.
const digestBytes = 16

// digest hashes the bytes of files, without comments, and the name of a service.
type digest struct{ hash hash.Hash }

func newDigest() digest { return digest{sha256.New()} }

func (d digest) add(file []byte) {
	_, _ = fmt.Fprintf(d.hash, "%d:", len(file)) // Write of a hash never fails
	_, _ = d.hash.Write(file)
}

func (d digest) sum(service string) string {
	_, _ = io.WriteString(d.hash, service)
	return base64.RawURLEncoding.EncodeToString(d.hash.Sum(nil)[:digestBytes])
}

// Field numbers in descriptor.proto: the files of a set, and the comments of a file.
const (
	setFiles     protowire.Number = 1
	fileComments protowire.Number = 9
)

// digestOf returns the digest of packed descriptors. It hashes their original bytes: the
// reader may know other options than the writer, and would then encode them in another
// order.
func digestOf(set []byte, service string) string {
	digest := newDigest()
	for part := range fieldsIn(set) {
		if part.number != setFiles {
			continue
		}
		file, _ := protowire.ConsumeBytes(part.value)
		kept := make([]byte, 0, len(file))
		for field := range fieldsIn(file) {
			if field.number != fileComments {
				kept = append(kept, field.encoded...)
			}
		}
		digest.add(kept)
	}
	return digest.sum(service)
}

// encodedField is a field of an encoded message. encoded contains all its bytes, and value
// those of its value.
type encodedField struct {
	number         protowire.Number
	kind           protowire.Type
	encoded, value []byte
}

// fieldsIn returns the fields of an encoded message. It stops at bytes that are not a field.
func fieldsIn(message []byte) iter.Seq[encodedField] {
	return func(yield func(encodedField) bool) {
		for len(message) > 0 {
			number, kind, tag := protowire.ConsumeTag(message)
			if tag < 0 {
				return
			}
			size := protowire.ConsumeFieldValue(number, kind, message[tag:])
			if size < 0 || !yield(encodedField{number, kind, message[:tag+size], message[tag : tag+size]}) {
				return
			}
			message = message[tag+size:]
		}
	}
}
