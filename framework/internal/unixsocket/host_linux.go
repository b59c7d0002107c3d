package unixsocket

import (
	"os"
	"strings"
)

// hostID returns the ID that this host has until its next start.
func hostID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}
