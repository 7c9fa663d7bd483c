package clients

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end berth when the test binary goes without running its cleanups.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
