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
