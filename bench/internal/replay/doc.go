// Package replay reads calls from the wire and sends copies of them, with the same
// headers and the same body, as a retrying proxy or an eavesdropper would. A [Tap]
// reads, a [Sender] sends, and a [Player] decides which calls are copied, to which
// address and when.
package replay
