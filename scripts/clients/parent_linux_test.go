package clients

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel kill berth if the test binary ends without its cleanups.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
