package unixsocket

import "syscall"

// hostID returns the ID that this host has until its next start.
func hostID() (string, error) { return syscall.Sysctl("kern.bootsessionuuid") }
