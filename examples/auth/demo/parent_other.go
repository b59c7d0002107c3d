//go:build !linux

package main

import "syscall"

// endWithParent does nothing: here the parent itself must stop its children.
func endWithParent() *syscall.SysProcAttr { return nil }
