package main

import "syscall"

// endWithParent makes the kernel kill a process when its parent is killed.
func endWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
