package pool

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"syscall"

	"github.com/bytedance/gopkg/util/gopool"
	"github.com/cloudwego/netpoll"
)

// wireOwner is told what happens on a wire, by netpoll's goroutines.
type wireOwner interface {
	received(b []byte) // valid during the call; never called by two goroutines at once
	hungUp()           // once, whoever ended it; the last call
}

// wire is one socket of netpoll's. It is written without ever blocking, and it ends in one way
// only: netpoll sees it hang up, because the node closed it or because shutdown did. So whoever
// ends it pays one system call, and everything that was received is handed over before hungUp.
type wire struct {
	owner wireOwner
	nc    netpoll.Connection
	fd    int

	// mu guards what follows, and fd against being closed and reused by another socket under a
	// system call. Nothing blocks under it.
	mu      sync.Mutex
	gone    bool     // fd is closed, or about to be
	ended   bool     // shutdown was called
	writing bool     // a goroutine writes the backlog
	backlog [][]byte // what the socket would not take yet
}

// coresPerPoller is how many cores share a poller. It only reads sockets: on two cores a second one
// made a WATCH transaction slower and saved nothing.
const coresPerPoller = 8

// startPollers configures netpoll, once in a process.
//
// Handlers run in gopool's goroutines, as netpoll has it by default. Running them on the poller
// (Config.Runner) was measured: small replies cost the same within the noise, large ones three
// times as much, because netpoll then neither lets a read buffer grow nor reads on while the
// handler copies; and a Close that meets a handler would wait there for itself.
var startPollers = sync.OnceFunc(func() {
	cores := runtime.GOMAXPROCS(0)
	if err := netpoll.Configure(netpoll.Config{PollerNum: (cores + coresPerPoller - 1) / coresPerPoller}); err != nil {
		panic("netpoll refuses its configuration: " + err.Error())
	}
})

// open hands a connected socket to netpoll. fd belongs to the wire from here on, also when open
// fails. The owner may be called before open returns.
func (w *wire) open(fd int, owner wireOwner) error {
	startPollers()
	nc, err := netpoll.NewFDConnection(fd)
	if err != nil {
		return err
	}
	w.owner, w.nc, w.fd = owner, nc, fd
	// The order matters: once there is a request handler, netpoll itself finishes a hang-up.
	_ = nc.AddCloseCallback(w.closed)
	_ = nc.SetOnRequest(w.readable)
	if !nc.IsActive() {
		_ = nc.Close() // hung up before there was a handler: nobody else would call closed
	}
	return nil
}

// readable takes every byte out, else netpoll would call it again for ever.
func (w *wire) readable(_ context.Context, nc netpoll.Connection) error {
	r := nc.Reader()
	for n := r.Len(); n > 0; n = r.Len() {
		b, err := r.Next(min(n, maxTaken))
		if err != nil {
			return err
		}
		w.owner.received(b)
		if err := r.Release(); err != nil {
			return err
		}
	}
	return nil
}

// maxTaken bounds what is taken from netpoll at once: what lies in several of its buffers it copies
// into one first.
const maxTaken = 128 << 10

// closed runs before the descriptor is closed, and never beside readable.
func (w *wire) closed(nc netpoll.Connection) error {
	w.mu.Lock()
	w.gone = true
	w.backlog = nil
	w.mu.Unlock()
	_ = w.readable(context.Background(), nc) // netpoll does not call it for bytes that came right before the hang-up
	w.owner.hungUp()
	return nil
}

// write sends b, now as far as the socket takes it at once, the rest from a goroutine. If kept is
// true, b belongs to the wire and must not be used again. Bytes for a wire that has ended are
// dropped; its owner hears of it by hungUp.
func (w *wire) write(b []byte) (kept bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || w.ended {
		return false
	}
	if w.writing {
		w.backlog = append(w.backlog, b)
		return true
	}
	n, err := writeSome(w.fd, b)
	if err != nil {
		w.end()
		return false
	}
	if n == len(b) {
		return false
	}
	w.backlog = append(w.backlog, b[n:])
	w.writing = true
	gopool.Go(w.writeBacklog)
	return true
}

// writeSome writes what the socket takes without waiting.
func writeSome(fd int, b []byte) (n int, err error) {
	for {
		n, err = syscall.Write(fd, b)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		default:
			return max(n, 0), err
		}
	}
}

// maxPiece bounds what netpoll copies of a backlog at once.
const maxPiece = 64 << 10

// writeBacklog waits for the node to read. netpoll's Write parks until everything is out or the
// socket hangs up; only Write keeps the socket from being closed meanwhile, the other methods of
// its writer do not.
func (w *wire) writeBacklog() {
	for {
		w.mu.Lock()
		parts := w.backlog
		w.backlog = nil
		w.writing = len(parts) > 0
		w.mu.Unlock()
		if len(parts) == 0 {
			return
		}
		for _, b := range parts {
			for len(b) > 0 {
				piece := b[:min(len(b), maxPiece)]
				if _, err := w.nc.Write(piece); err != nil {
					w.shutdown() // and stay writing: nothing may follow the gap
					return
				}
				b = b[len(piece):]
			}
		}
	}
}

// shutdown ends the connection: the node sees the end of it at once. Calling it again does nothing.
func (w *wire) shutdown() {
	w.mu.Lock()
	w.end()
	w.mu.Unlock()
}

func (w *wire) end() {
	if !w.gone && !w.ended {
		w.ended = true
		_ = syscall.Shutdown(w.fd, syscall.SHUT_RDWR) // an error means that it has hung up by itself
	}
}
