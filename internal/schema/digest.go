package schema

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// digestBytes is how much of a hash is a digest.
const digestBytes = 16

// digest hashes files, as bytes without comments, and the name of a service.
type digest struct{ hash hash.Hash }

func newDigest() digest { return digest{sha256.New()} }

func (d digest) add(file []byte) {
	_, _ = fmt.Fprintf(d.hash, "%d:", len(file)) // a hash's Write never fails
	_, _ = d.hash.Write(file)
}

func (d digest) sum(service string) string {
	_, _ = io.WriteString(d.hash, service)
	return base64.RawURLEncoding.EncodeToString(d.hash.Sum(nil)[:digestBytes])
}

// The numbers of descriptor.proto for a set's files and for a file's comments.
const (
	setFiles     protowire.Number = 1
	fileComments protowire.Number = 9
)

// digestOf returns the digest of descriptors as they were packed. It takes their
// bytes as they are: the reader may know other options than the writer,
// and would write them in another order.
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

// eachField calls do with each field of a message: all its bytes, and those of its
// value. It stops at what is no field.
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
