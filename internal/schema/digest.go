package schema

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"io"

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
	eachField(set, func(number protowire.Number, _, value []byte) {
		if number != setFiles {
			return
		}
		file, _ := protowire.ConsumeBytes(value)
		kept := make([]byte, 0, len(file))
		eachField(file, func(number protowire.Number, field, _ []byte) {
			if number != fileComments {
				kept = append(kept, field...)
			}
		})
		digest.add(kept)
	})
	return digest.sum(service)
}

// eachField calls do with each field of a message. field contains all bytes of the field,
// and value those of its value. It stops at bytes that are not a field.
func eachField(message []byte, do func(number protowire.Number, field, value []byte)) {
	for len(message) > 0 {
		number, kind, tag := protowire.ConsumeTag(message)
		if tag < 0 {
			return
		}
		size := protowire.ConsumeFieldValue(number, kind, message[tag:])
		if size < 0 {
			return
		}
		do(number, message[:tag+size], message[tag:tag+size])
		message = message[tag+size:]
	}
}
