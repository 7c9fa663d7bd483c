//go:build !linux

package clients

import "os/exec"

// dieWithParent does nothing where the kernel has no such service.
func dieWithParent(*exec.Cmd) {}
