package main

import "golang.org/x/sys/unix"

// keepIdle is the socket option for the seconds of silence before the kernel probes a connection.
const keepIdle = unix.TCP_KEEPALIVE

// peerOfSocket returns who was at the other end of a unix socket when it was connected.
func peerOfSocket(fd int) (uid, pid int, err error) {
	peer, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return 0, 0, err
	}
	pid, err = unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
	return int(peer.Uid), pid, err
}
