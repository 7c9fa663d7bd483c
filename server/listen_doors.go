package main

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/config"
)

// door is an open listener.
type door struct {
	net.Listener
	way    *doorway
	passed bool        // systemd has opened it: berth keeps it until it ends itself
	handed bool        // another berth had it before
	dual   bool        // of one that was passed or handed over: all addresses of both families
	mode   os.FileMode // of a unix socket whose door says none
}

// newDoor makes a door of a listener.
func newDoor(ln net.Listener, terms *config.Door) door {
	d := door{Listener: ln, way: &doorway{name: ln.Addr().String()}}
	d.way.terms.Store(terms)
	if path := d.path(); path != "" {
		if info, err := os.Stat(path); err == nil {
			d.mode = info.Mode().Perm()
		}
	}
	return d
}

// path is that of a unix socket, else "".
func (d *door) path() string {
	if addr, isUnix := d.Addr().(*net.UnixAddr); isUnix {
		return addr.Name
	}
	return ""
}

// port is that of a TCP listener, else 0.
func (d *door) port() int {
	if addr, isTCP := d.Addr().(*net.TCPAddr); isTCP {
		return addr.Port
	}
	return 0
}

// perm is the file mode that a unix socket has under some terms.
func (d *door) perm(terms *config.Door) os.FileMode {
	if terms.Perm != 0 {
		return terms.Perm
	}
	return d.mode
}

// serves reports whether a wanted door is this one.
func (d *door) serves(w *config.Door) bool {
	if d.passed || d.handed {
		return d.covers(w)
	}
	return d.way.terms.Load().Place == w.Place
}

// errNoDoor is why berth would have no listener.
var errNoDoor = errors.New("nothing to listen on: neither port or tls-port and bind, nor unixsocket, nor listen name an address of this machine")

// listen opens the doors with which berth begins, beside those that were passed to it. By those that
// were handed over clients go on to the berth before it for now.
func (srv *server) listen(cfg *config.Config) error {
	passed := *srv.doors.Load()
	if err := srv.rebind(cfg); err != nil {
		return err
	}
	srv.accept(slices.DeleteFunc(slices.Clone(passed), func(d door) bool { return d.handed }))
	return nil
}

// doorChange is how the doors become those of another configuration.
type doorChange struct {
	stay    []door
	terms   []*config.Door // of each that stays
	leave   []door
	missing []config.Door
}

// planDoors compares open doors with those that are wanted.
func planDoors(open []door, wanted []config.Door) (c doorChange) {
	served := make([]bool, len(wanted))
	for _, d := range open {
		var terms *config.Door
		for i := range wanted {
			if d.serves(&wanted[i]) {
				served[i] = true
				terms = cmp.Or(terms, &wanted[i])
			}
		}
		switch {
		case terms == nil && !d.passed:
			c.leave = append(c.leave, d)
			continue
		case terms == nil:
			terms = d.way.terms.Load() // what was said of it last
		}
		c.stay, c.terms = append(c.stay, d), append(c.terms, terms)
	}
	for i, w := range wanted {
		if !served[i] {
			c.missing = append(c.missing, w)
		}
	}
	return c
}

// inTheWay are doors of a port that is missing: 127.0.0.1 is in the way of all addresses.
func (c *doorChange) inTheWay(doors []door) (found []door) {
	ports := map[string]bool{}
	for _, w := range c.missing {
		if _, port, err := net.SplitHostPort(w.Addr); err == nil && w.Network != "unix" {
			ports[port] = true
		}
	}
	for _, d := range doors {
		if ports[strconv.Itoa(d.port())] {
			found = append(found, d)
		}
	}
	return found
}

// rebind has berth listen where a changed configuration says, or leaves all as it was. Listeners
// that stay are not touched, and their clients and those to come have the new terms. Listeners that
// are in the way of new ones are closed first.
func (srv *server) rebind(next *config.Config) error {
	srv.doorsMu.Lock()
	defer srv.doorsMu.Unlock()
	if srv.stopping.Load() {
		return net.ErrClosed
	}
	wanted, err := next.Doors()
	if err != nil {
		return err
	}
	c := planDoors(*srv.doors.Load(), wanted)
	if len(c.stay)+len(c.missing) == 0 {
		return errNoDoor
	}
	undo, err := c.changeModes()
	if err != nil {
		return err
	}
	added, err := srv.openMissing(&c, next)
	if err == nil && len(c.stay)+len(added) == 0 {
		err = errNoDoor
	}
	if err != nil {
		undo()
		return err
	}
	for i, d := range c.stay {
		d.way.terms.Store(c.terms[i])
	}
	srv.openTo(c.stay, added, next)
	closeDoors(c.leave)
	return nil
}

// openMissing opens the doors that are missing, if need be in place of others.
func (srv *server) openMissing(c *doorChange, next *config.Config) (added []door, err error) {
	added, err = openDoors(c.missing, next)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return added, err
	}
	old := c.inTheWay(c.leave)
	if len(old) > 0 {
		closeDoors(old)
		if added, err = openDoors(c.missing, next); err != nil {
			srv.reopen(old)
		}
	}
	if err != nil {
		for _, d := range c.inTheWay(c.stay) {
			if d.passed {
				err = fmt.Errorf("%w; systemd has passed a socket of %s", err, d.way.name)
			}
		}
	}
	return added, err
}

// changeModes gives unix sockets that stay the file modes of their new terms.
func (c *doorChange) changeModes() (undo func(), err error) {
	changed := map[string]os.FileMode{} // what they had
	undo = func() {
		for path, mode := range changed {
			_ = os.Chmod(path, mode)
		}
	}
	for i, d := range c.stay {
		was, is := d.perm(d.way.terms.Load()), d.perm(c.terms[i])
		if was == is {
			continue
		}
		if err := os.Chmod(d.path(), is); err != nil {
			undo()
			return nil, fmt.Errorf("listen: %w", err)
		}
		changed[d.path()] = was
	}
	return undo, nil
}

func closeDoors(doors []door) {
	for _, d := range doors {
		_ = d.Close() // ends its acceptors
	}
}

// reopenTries and reopenPause bound how long berth tries to have listeners back. Who was accepted
// meanwhile may have taken their descriptors.
const (
	reopenTries = 50
	reopenPause = 20 * time.Millisecond
)

// reopen opens doors that have been closed in vain.
func (srv *server) reopen(closed []door) {
	var stay, again []door
	tries := reopenTries
	for _, d := range *srv.doors.Load() {
		if !slices.ContainsFunc(closed, func(c door) bool { return c.way == d.way }) {
			stay = append(stay, d)
			continue
		}
		opened, err := openDoor(d.way.terms.Load(), srv.config())
		for ; err != nil && tries > 0; tries-- {
			time.Sleep(reopenPause)
			opened, err = openDoor(d.way.terms.Load(), srv.config())
		}
		if err != nil {
			slog.Error("not listening any more", "addr", d.way.name, "why", err)
			continue
		}
		d.Listener = opened.Listener
		again = append(again, d)
	}
	srv.openTo(stay, again, srv.config())
}

// openTo lets clients in by the added listeners.
func (srv *server) openTo(stay, added []door, cfg *config.Config) {
	doors := slices.Concat(stay, added)
	srv.doors.Store(&doors)
	srv.noteReads(cfg)
	srv.keepAlive(cfg.TCPKeepalive)
	srv.accept(added)
}

// tryRebind is rebind with the words of Redis, if it has some.
func (srv *server) tryRebind(next *config.Config, name string) error {
	err := srv.rebind(next)
	if err == nil {
		return nil
	}
	slog.Warn("listening as before", "why", err)
	switch name {
	case "listen":
		return err
	case "bind":
		return errors.New("Failed to bind to specified addresses.")
	}
	return errors.New("Unable to listen on this port. Check server logs.")
}

// noteReads enters whether clients may read from replicas by what is configured.
func (srv *server) noteReads(cfg *config.Config) {
	srv.readsReplicas.Store(cfg.ReadFrom != router.FromPrimary || slices.ContainsFunc(*srv.doors.Load(), func(d door) bool {
		from := d.way.terms.Load().ReadFrom
		return from != nil && *from != router.FromPrimary
	}))
}
