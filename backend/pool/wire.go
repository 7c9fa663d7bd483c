package pool

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/bytedance/gopkg/util/gopool"
	"github.com/cloudwego/netpoll"

	"github.com/berth-proxy/berth/backend/secure"
)

// wire is one socket of netpoll's. Writing to it never blocks. It ends in one way only: netpoll sees
// it hang up, because the node closed it or because shutdown did. So ending it costs one system
// call, and everything that was received is handed over before hungUp.
type wire struct {
	owner  wireOwner
	nc     netpoll.Connection
	fd     int
	secure *secure.Stream // nil: plain

	// mu guards what follows. It also keeps fd from being closed, and used again for another
	// socket, during a system call. Nothing blocks under it.
	mu      sync.Mutex
	gone    bool     // fd is closed, or about to be
	ended   bool     // shutdown was called
	writing bool     // a goroutine writes the backlog
	backlog [][]byte // what the socket has not taken; of TLS, what is not sealed
	sealed  []byte   // of TLS: what comes before the backlog
}

// wireOwner is called by netpoll's goroutines.
type wireOwner interface {
	received(b []byte) // b is valid during the call; there is one call at a time
	hungUp()           // the last call, once, whichever side ended the wire
}

// coresPerPoller is how many cores share a poller, which only reads sockets. On two cores a second
// poller made a WATCH transaction slower and saved nothing.
const coresPerPoller = 8

// startPollers configures netpoll, once in a process.
//
// Handlers run in gopool's goroutines, which is netpoll's default. Running them on the poller
// (Config.Runner) was measured: small replies cost the same within the noise, large ones three times
// as much, because netpoll then neither lets a read buffer grow nor goes on reading while the
// handler copies. Also, a Close from inside a handler would wait for itself.
var startPollers = sync.OnceFunc(func() {
	cores := runtime.GOMAXPROCS(0)
	if err := netpoll.Configure(netpoll.Config{PollerNum: (cores + coresPerPoller - 1) / coresPerPoller}); err != nil {
		panic("netpoll refuses its configuration: " + err.Error())
	}
	netpoll.SetLoggerOutput(netpollLog{})
})

// netpollLog passes netpoll's lines to berth's log: they speak of connections that ended, which a
// wire's owner learns as well.
type netpollLog struct{}

func (netpollLog) Write(line []byte) (int, error) {
	slog.Debug("netpoll", "line", strings.TrimSpace(string(line)))
	return len(line), nil
}

// open hands a connected socket to netpoll. The wire owns fd from here on, even if open fails. The
// owner may be called before open returns.
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
		_ = nc.Close() // it hung up before there was a handler: otherwise closed would not be called
	}
	return nil
}

// readable takes every byte out. Otherwise netpoll would call it again, for ever.
func (w *wire) readable(_ context.Context, nc netpoll.Connection) error {
	r := nc.Reader()
	for n := r.Len(); n > 0; n = r.Len() {
		b, err := r.Next(min(n, maxTaken))
		if err != nil {
			return err
		}
		w.received(b)
		if err := r.Release(); err != nil {
			return err
		}
	}
	return nil
}

// received hands bytes from the socket to the owner.
func (w *wire) received(b []byte) {
	if w.secure == nil {
		w.owner.received(b)
		return
	}
	scratch := plainScratch.Get().(*[]byte)
	plain, err := w.secure.Open(b, (*scratch)[:0])
	if len(plain) > 0 {
		w.owner.received(plain)
	}
	*scratch = plain
	plainScratch.Put(scratch)
	if err != nil {
		w.shutdown()
	}
}

// plainScratch is memory to decrypt into.
var plainScratch = sync.Pool{New: func() any { return new([]byte) }}

// maxTaken bounds how many bytes are taken from netpoll at once. netpoll copies bytes from several of
// its buffers into one first.
const maxTaken = 128 << 10

// closed runs before the descriptor is closed, and never while readable runs.
func (w *wire) closed(nc netpoll.Connection) error {
	w.mu.Lock()
	w.gone = true
	w.backlog, w.sealed = nil, nil
	w.mu.Unlock()
	_ = w.readable(context.Background(), nc) // netpoll may not have called it for the last bytes before the hang-up
	w.owner.hungUp()
	return nil
}

// write sends b: at once what the socket takes, the rest from a goroutine. If kept is true, the wire
// owns b, which must not be used again. Bytes for a wire that has ended are dropped, and the owner
// learns of that from hungUp.
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
	n, err := w.writeNow(b)
	if err != nil {
		w.end()
		return false
	}
	if n == len(b) && len(w.sealed) == 0 {
		return false
	}
	if n < len(b) {
		w.backlog = append(w.backlog, b[n:])
	}
	w.writing = true
	gopool.Go(w.writeBacklog)
	return n < len(b)
}

// writeNow writes what the socket takes without waiting, and returns how many bytes of b that was. Of
// TLS, what is sealed and not taken is kept in w.sealed.
func (w *wire) writeNow(b []byte) (n int, err error) {
	if w.secure == nil {
		return writeSome(w.fd, b)
	}
	for n < len(b) && len(w.sealed) == 0 {
		piece := b[n:min(len(b), n+maxPiece)]
		sealed, err := w.secure.Seal(piece, nil)
		if err != nil {
			return n, err
		}
		written, err := writeSome(w.fd, sealed)
		if err != nil {
			return n, err
		}
		n += len(piece)
		w.sealed = sealed[written:]
	}
	return n, nil
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

// maxPiece bounds how many bytes of a backlog netpoll copies at once.
const maxPiece = 64 << 10

// writeBacklog waits for the node to read. netpoll's Write blocks until everything is written or the
// socket hangs up. Only Write keeps the socket from being closed meanwhile; the other methods of
// netpoll's writer do not.
func (w *wire) writeBacklog() {
	for {
		w.mu.Lock()
		sealed, parts := w.sealed, w.backlog
		w.sealed, w.backlog = nil, nil
		w.writing = len(sealed)+len(parts) > 0
		goesOn := w.writing
		w.mu.Unlock()
		if !goesOn {
			return
		}
		if !w.writeAll(sealed, false) {
			return
		}
		for _, b := range parts {
			if !w.writeAll(b, w.secure != nil) {
				return
			}
		}
	}
}

// writeAll waits until the node has taken b, sealed if it has to be.
func (w *wire) writeAll(b []byte, seal bool) bool {
	for len(b) > 0 {
		piece := b[:min(len(b), maxPiece)]
		b = b[len(piece):]
		var err error
		if seal {
			piece, err = w.secure.Seal(piece, nil)
		}
		if err == nil {
			_, err = w.nc.Write(piece)
		}
		if err != nil {
			w.shutdown() // writing stays true, so that nothing is written after the gap
			return false
		}
	}
	return true
}

// shutdown ends the connection. The node sees the end at once. A second call does nothing.
func (w *wire) shutdown() {
	w.mu.Lock()
	w.end()
	w.mu.Unlock()
}

// end is shutdown with w.mu locked.
func (w *wire) end() {
	if !w.gone && !w.ended {
		w.ended = true
		_ = syscall.Shutdown(w.fd, syscall.SHUT_RDWR) // fails only if the node has hung up
	}
}
