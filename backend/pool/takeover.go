package pool

import (
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/berth-proxy/berth/backend"
)

// Taker is a Holder that may take the socket of its lease, to read and write it by itself: what
// netpoll reads has no bound, and a stream must have one.
type Taker interface {
	Holder
	// LeaseTaken answers Take. conn is the holder's. Until the holder closes the lease, the pool
	// counts the connection. It is given to nobody else.
	LeaseTaken(l *Lease, conn net.Conn, err error)
}

// Take has netpoll let go of the socket; LeaseTaken answers. The lease must be owed nothing, and
// its holder must be a Taker. Nothing may be sent on the lease any more. An error means that the
// connection is lost.
func (l *Lease) Take() error {
	c := l.conn
	l.Mark(DirtOther)
	fd, err := c.wire.duplicate()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.taken = fd
	c.mu.Unlock()
	_ = c.wire.nc.Close() // ends in hungUp, once netpoll reads no more
	return nil
}

// duplicate returns a second descriptor of the socket, owned by the caller.
func (w *wire) duplicate() (fd int, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || w.ended {
		return 0, backend.ErrHungUp
	}
	return unix.FcntlInt(uintptr(w.fd), unix.F_DUPFD_CLOEXEC, 0)
}

// takeover carries the descriptor of a socket that netpoll has let go of to the lease's loop. It is
// mail.
type takeover struct {
	lease *Lease
	fd    int
}

func (t *takeover) deliver() {
	f := os.NewFile(uintptr(t.fd), "taken connection")
	defer f.Close()
	if t.lease.over {
		return
	}
	conn, err := net.FileConn(f)
	if stream := t.lease.conn.wire.secure; stream != nil && err == nil {
		conn = stream.Attach(conn)
	}
	t.lease.holder.(Taker).LeaseTaken(t.lease, conn, err)
}
