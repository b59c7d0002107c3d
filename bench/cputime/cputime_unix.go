//go:build unix

// Package cputime measures the CPU time of the current process.
package cputime

import (
	"fmt"
	"syscall"
	"time"
)

// Used returns the user and system time that the process has used since it
// started.
func Used() (time.Duration, error) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0, fmt.Errorf("reading the process's CPU time: %w", err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), nil
}
