package redistest

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end the server when the test binary goes
// without running its cleanups (a timeout, a kill -9).
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
