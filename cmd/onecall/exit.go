package main

import (
	"errors"
	"strings"

	"github.com/onecall-dev/onecall/framework"
)

// The exit codes. docs/command.md documents them.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitNotRun  = 10
	exitRan     = 11
	exitUnknown = 12
)

// codedError is an error with an exit code.
type codedError struct {
	code int
	err  error
}

// Error implements error.
func (e *codedError) Error() string { return e.err.Error() }

// Unwrap returns the error.
func (e *codedError) Unwrap() error { return e.err }

// usage returns an error of the command line.
func usage(err error) error { return &codedError{exitUsage, err} }

// exitCode returns the exit code of an error. Without a code of its own, it is an error of
// the command line if the command had not begun.
func (p *program) exitCode(err error) int {
	if coded, ok := errors.AsType[*codedError](err); ok {
		return coded.code
	}
	if !p.begun {
		return exitUsage
	}
	return exitFailed
}

// ofCall returns the error of a call with the exit code of its outcome.
func ofCall(err error) error {
	if err == nil {
		return nil
	}
	code := exitUnknown
	switch framework.OutcomeOf(err) {
	case framework.NotSent, framework.Refused:
		code = exitNotRun
	case framework.Executed:
		code = exitRan
	case framework.Unknown:
	}
	return &codedError{code, err}
}

// oneLine joins the lines of a text.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// remedies replace what an error of the framework says about Go code by what to do on the
// command line.
var remedies = strings.NewReplacer(
	"bus: option FromEnv: ", "",
	"option FromEnv: ", "",
	"option TLS: CA is empty:", "--tls-ca is missing:",
	"option TLS: Cert is empty though Key is set:", "--tls-cert is missing and --tls-key is not:",
	"option TLS: Key is empty though Cert is set:", "--tls-key is missing and --tls-cert is not:",
	"bus: option TLS: option TLS: ", "",
	"bus: option TLS: ", "--tls-ca, --tls-cert, --tls-key: ",
	"bus: options TLS and Insecure: ", "--insecure and --tls-ca: ",
	"serve it with option TLS, or leave that and the credentials out of the bus", "serve it with TLS, or leave --tls-ca out",
	"set Cert and Key in option TLS, to a certificate", "set --tls-cert and --tls-key to a certificate",
	"set option TLS, or Insecure if plain text is meant", "set --tls-ca, or --insecure if plain text is meant",
	"set option TLS (", "set --tls-ca (",
	"into the file CA of option TLS", "into the file of --tls-ca",
	", or say with grpc.WithAuthority in DialOptions which name it has", "",
	"set option TokenKey, with the same key in both processes", "set --token-key to the file with the key of the program that made the call",
	"both processes need the same option TokenKey", "--token-key is the file with the key of the program that made the call",
	"option Timeout is", "--timeout is",
	"; start its service, or wait for it with Ready", "; start its service",
	"send less, or raise grpc.MaxRecvMsgSize in the service's ServerOptions", "send less",
	"ask for less, or raise grpc.MaxCallRecvMsgSize by grpc.WithDefaultCallOptions in DialOptions", "ask for less",
	"send less, or raise grpc.MaxCallSendMsgSize by grpc.WithDefaultCallOptions in DialOptions", "send less",
	"raise it with grpc.MaxCallSendMsgSize in DialOptions, and what the service takes with grpc.MaxRecvMsgSize in ServerOptions, or send less", "send less",
	"as framework.Args or a struct", "as JSON",
	"write https:// and set CAFile", "write https:// and set --etcd-ca",
	"set CAFile to the certificates", "set --etcd-ca to the certificates",
	"set CertFile and KeyFile to a client certificate", "set --etcd-cert and --etcd-key to a client certificate",
)

// remedy returns the text of an error with remedies of the command line.
func remedy(text string) string { return remedies.Replace(text) }
