//go:build !linux

package redistest

import "os/exec"

// dieWithParent does nothing, because only Linux can kill a process when its parent ends.
func dieWithParent(*exec.Cmd) {}
