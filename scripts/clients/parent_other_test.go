//go:build !linux

package clients

import "os/exec"

// dieWithParent does nothing, because only Linux can kill a process when its parent ends.
func dieWithParent(*exec.Cmd) {}
