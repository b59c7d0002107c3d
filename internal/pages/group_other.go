//go:build !unix

package pages

import (
	"errors"
	"os/exec"
)

func ownGroup(*exec.Cmd) {}

func interrupt(*exec.Cmd) error { return errors.New("pages are run on Unix only") }

func kill(shell *exec.Cmd) { _ = shell.Process.Kill() }
