// Package decode converts messages to plain Go values: see [Map] and [Into].
package decode
