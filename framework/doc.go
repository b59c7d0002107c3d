// Package framework is the face of Onecall: a service embeds [Serve], a caller
// holds a [Bus] or [Dial]s one API.
//
// Nothing that only constructs does I/O or can hang; the first call, or
// [Bus.Ready], does. Errors of calls carry a gRPC code for status.Code and
// their causes for errors.As: the errors of package discovery where no
// instance could be found, *timeout.Error where time ran out.
package framework
