//go:build unix

package pages

import (
	"os/exec"
	"syscall"
)

// ownGroup makes a shell the first of a group of processes, which get signals together.
func ownGroup(shell *exec.Cmd) { shell.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// interrupt does what Ctrl-C does in a terminal.
func interrupt(shell *exec.Cmd) error { return syscall.Kill(-shell.Process.Pid, syscall.SIGINT) }

// kill ends a shell and all that it runs.
func kill(shell *exec.Cmd) { _ = syscall.Kill(-shell.Process.Pid, syscall.SIGKILL) }
