//go:build !linux

package main

import "syscall"

// endWithParent leaves it to the parent to end its children.
func endWithParent() *syscall.SysProcAttr { return nil }
