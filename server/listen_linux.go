package main

import "golang.org/x/sys/unix"

// keepIdle is the socket option for the seconds of silence before the kernel probes a connection.
const keepIdle = unix.TCP_KEEPIDLE

// peerOfSocket returns who was at the other end of a unix socket when it was connected.
func peerOfSocket(fd int) (uid, pid int, err error) {
	peer, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0, 0, err
	}
	return int(peer.Uid), int(peer.Pid), nil
}
