// Package replay takes calls from the wire and sends them again, with the same
// headers and the same body, as a retrying proxy or someone who listened would:
// a [Tap] takes, a [Sender] sends, a [Player] decides which, where and when.
package replay
