// Package framework is the public package of Onecall: a service calls [Serve], and a
// caller uses a [Bus] for all APIs, or [Dial] for one API.
//
// [NewBus] and [Dial] do no I/O and cannot hang. The first call connects, or
// [Bus.Ready]. Errors of calls have a gRPC code for status.Code and their causes for
// errors.As: an error of package discovery if no instance was found, *timeout.Error if
// a timeout passed.
package framework
