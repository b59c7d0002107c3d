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
	process, err := syscall.GetCurrentProcess()
	if err != nil {
		return 0, fmt.Errorf("reading the process's CPU time: %w", err)
	}
	var created, exited, system, user syscall.Filetime
	if err := syscall.GetProcessTimes(process, &created, &exited, &system, &user); err != nil {
		return 0, fmt.Errorf("reading the process's CPU time: %w", err)
	}
	return length(system) + length(user), nil
}

// length converts a length of time, which Windows counts in units of 100 ns.
func length(of syscall.Filetime) time.Duration {
	return time.Duration(uint64(of.HighDateTime)<<32|uint64(of.LowDateTime)) * 100
}
