package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// handOver gives the listening sockets of this berth to a successor, so that no client is refused in
// between: a client that the kernel has let in waits on the socket, whoever has it.
//
//	successor                          this berth
//	    ├─ asks ────────────────────────▶│ is it the same user, or root?
//	    │◀──────── its listening sockets ┤
//	  starts                           serves
//	    ├─ ready: it accepts clients ───▶│ closes its own descriptors of them
//	    │◀───────────────────────── gone ┤
//	  serves                           stops, as at SIGTERM
//
// Whatever fails before ready changes nothing here. Safe for any goroutine.
type handOver struct {
	srv  *server
	ln   *net.UnixListener
	done chan int    // gets the process ID of the successor
	busy sync.Mutex  // held while a successor starts
	lent atomic.Bool // likewise: it may have the sockets
}

// What the two say to each other, beside handedSockets.
const (
	askSockets  = "berth take-over 1\n"
	sayReady    = "ready\n"
	sayGone     = "gone\n"
	useClients  = "clients"
	useAdmin    = "admin"
	useTakeOver = "take-over"
)

// handedSockets is a line with as many descriptors beside it.
type handedSockets struct {
	Refused string         `json:",omitempty"` // why there are none
	Sockets []handedSocket `json:",omitempty"`
	More    bool           `json:",omitempty"` // another line follows
}

// handedSocket says what a descriptor is.
type handedSocket struct {
	Use    string
	Passed bool `json:",omitempty"` // systemd has opened it
	TLS    bool `json:",omitempty"`
}

// handedAtOnce is how many descriptors go in one message. The kernel takes 253.
const handedAtOnce = 200

// handOverPatience bounds each word of the two but ready, which takes as long as a start: startPatience.
const (
	handOverPatience = 5 * time.Second
	startPatience    = 5 * time.Minute
)

// awaitSuccessor opens take-over-socket, unless a predecessor has handed it over.
func (srv *server) awaitSuccessor(ln *net.UnixListener) error {
	path := srv.config().TakeOverSocket
	srv.handOver = &handOver{srv: srv, done: make(chan int, 1)}
	if path == "" {
		return nil
	}
	if ln == nil {
		if err := clearSocket(path); err != nil {
			return fmt.Errorf("take-over-socket %s: %w", path, err)
		}
		var err error
		if ln, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}); err != nil {
			return fmt.Errorf("take-over-socket: %w", err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			_ = ln.Close()
			return fmt.Errorf("take-over-socket: %w", err)
		}
	}
	srv.handOver.ln = ln
	go srv.handOver.run()
	return nil
}

// close has nobody take over any more. It may be called again.
func (h *handOver) close() {
	if h != nil && h.ln != nil {
		_ = h.ln.Close()
	}
}

// run takes successors until the socket is closed.
func (h *handOver) run() {
	for {
		conn, err := h.ln.AcceptUnix()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			slog.Warn("accept failed", "at", "take-over-socket", "why", err)
			time.Sleep(acceptPauseMax)
		default:
			go h.meet(conn)
		}
	}
}

// meet deals with one that wants to be the successor.
func (h *handOver) meet(conn *net.UnixConn) {
	defer conn.Close()
	pid, err := h.give(conn)
	if err != nil {
		slog.Warn("not taken over", "by", pid, "why", err)
	}
}

func (h *handOver) give(conn *net.UnixConn) (pid int, err error) {
	uid, pid, err := peerOf(conn)
	switch {
	case err != nil:
		return pid, err
	case uid != 0 && uid != os.Geteuid():
		return pid, fmt.Errorf("it is user %d", uid)
	case !h.busy.TryLock():
		return pid, refuseSuccessor(conn, "another berth takes over already")
	}
	defer h.busy.Unlock()
	in := bufio.NewReader(conn)
	_ = conn.SetDeadline(time.Now().Add(handOverPatience)) // a closed socket fails below
	if word, err := in.ReadString('\n'); err != nil || word != askSockets {
		return pid, fmt.Errorf("it does not ask for the sockets (%w)", cmp.Or(err, errOddWord))
	}
	h.lent.Store(true) // before berth is seen not to stop: see closeSockets
	defer h.lent.Store(false)
	if h.srv.stopping.Load() || h.srv.retiring.Load() {
		return pid, refuseSuccessor(conn, "the running berth stops already")
	}
	if err := h.sendSockets(conn); err != nil {
		return pid, err
	}
	slog.Info("a berth starts to take over", "pid", pid)
	_ = conn.SetDeadline(time.Now().Add(startPatience))
	if word, err := in.ReadString('\n'); err != nil || word != sayReady {
		return pid, fmt.Errorf("it has not become ready (%w)", cmp.Or(err, errOddWord))
	}
	h.srv.leaveSockets()
	notify(fmt.Sprintf("MAINPID=%d", pid))
	_, _ = conn.Write([]byte(sayGone)) // it serves anyway
	h.done <- pid
	return pid, nil
}

var errOddWord = errors.New("it says something else")

// refuseSuccessor tells it why.
func refuseSuccessor(conn *net.UnixConn, why string) error {
	_ = json.NewEncoder(conn).Encode(handedSockets{Refused: why})
	return errors.New(why)
}

// sendSockets sends all listening sockets.
func (h *handOver) sendSockets(conn *net.UnixConn) error {
	var what []handedSocket
	var listeners []net.Listener
	for _, d := range *h.srv.doors.Load() {
		what = append(what, handedSocket{Use: useClients, Passed: d.passed, TLS: d.way.terms.Load().TLS})
		listeners = append(listeners, d.Listener)
	}
	for _, ln := range h.srv.admin.Listeners() {
		what, listeners = append(what, handedSocket{Use: useAdmin}), append(listeners, ln)
	}
	what, listeners = append(what, handedSocket{Use: useTakeOver}), append(listeners, h.ln)
	for len(what) > 0 {
		n := min(len(what), handedAtOnce)
		if err := sendSockets(conn, handedSockets{Sockets: what[:n], More: n < len(what)}, listeners[:n]); err != nil {
			return err
		}
		what, listeners = what[n:], listeners[n:]
	}
	return nil
}

func sendSockets(conn *net.UnixConn, say handedSockets, listeners []net.Listener) error {
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	for _, ln := range listeners {
		fd, err := duplicate(ln)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	line, err := json.Marshal(say)
	if err == nil {
		_, _, err = conn.WriteMsgUnix(append(line, '\n'), unix.UnixRights(fds...), nil)
	}
	return err
}

// duplicate returns another descriptor of a listener. That of ln.File would have the socket block both
// berths when it is used.
func duplicate(ln net.Listener) (fd int, err error) {
	raw, err := ln.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	failed := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(failed, err)
}

// peerOf returns who is at the other end of a unix socket.
func peerOf(conn *net.UnixConn) (uid, pid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, 0, err
	}
	failed := raw.Control(func(fd uintptr) { uid, pid, err = peerOfSocket(int(fd)) })
	return uid, pid, errors.Join(failed, err)
}

// leaveSockets leaves all listening sockets to the successor: what waits there is the successor's.
func (srv *server) leaveSockets() {
	srv.stopping.Store(true)
	srv.closeSockets()
	srv.admin.Leave()
}

// closeSockets closes the sockets of clients and successors when berth stops. The paths stay if a
// successor serves there, or may do so soon.
func (srv *server) closeSockets() {
	leaves := srv.handOver != nil && srv.handOver.lent.Load()
	srv.doorsMu.Lock()
	defer srv.doorsMu.Unlock()
	doors := *srv.doors.Load()
	for _, d := range doors {
		if ln, isUnix := d.Listener.(*net.UnixListener); isUnix && leaves {
			ln.SetUnlinkOnClose(false)
		}
	}
	closeDoors(doors)
	if leaves {
		srv.handOver.ln.SetUnlinkOnClose(false)
	}
	srv.handOver.close()
}

// startSuccessor runs berth's program anew, as it is by now, to take over from this process.
func (srv *server) startSuccessor() {
	if srv.config().TakeOverSocket == "" {
		slog.Warn("no successor is started", "why", "there is no take-over-socket")
		return
	}
	program, err := os.Executable()
	if err != nil {
		slog.Warn("no successor is started", "why", err)
		return
	}
	args := slices.DeleteFunc(slices.Clone(os.Args[1:]), func(arg string) bool { return arg == takeOverFlag })
	cmd := exec.Command(program, append([]string{takeOverFlag}, args...)...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		slog.Warn("no successor is started", "why", err)
		return
	}
	go func() {
		if err := cmd.Wait(); err != nil {
			slog.Warn("the successor has ended", "pid", cmd.Process.Pid, "why", err)
		}
	}()
}

const takeOverFlag = "--take-over"
