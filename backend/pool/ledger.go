package pool

import (
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/codec"
)

// Dirt is a set of bits: what a holder has told a connection and the next holder must not find there.
type Dirt uint16

const (
	// Known dirt: the pool undoes it, WATCH as soon as the connection is idle, else before the next
	// holder's first command.

	DirtWatch Dirt = 1 << iota // WATCH without EXEC, DISCARD or UNWATCH
	DirtName                   // CLIENT SETNAME

	// Anything else costs the connection.

	DirtMulti    // MULTI is open
	DirtAuth     // AUTH, or HELLO with AUTH: the connection is another user's
	DirtTracking // CLIENT TRACKING
	DirtStream   // SUBSCRIBE, MONITOR: replies come that answer no command; they go to the holder
	DirtOther    // anything else

	dirtInherited // known dirt of an earlier holder that the node would not undo

	dirtKnown = DirtWatch | DirtName
)

var dirtNames = [...]string{"watch", "name", "multi", "auth", "tracking", "stream", "other", "inherited"}

func (d Dirt) String() string {
	var names []string
	for i, name := range dirtNames {
		if d&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

// ledger is what the node keeps of what a connection was told. The connection's owner owns it.
type ledger struct {
	db        int  // selected
	resp      int  // 2 or 3
	dirt      Dirt // of the current holder
	inherited Dirt // of earlier holders: known dirt that has not been undone
}

// recycle ends the current holder's use. The ledger must not be unfit.
func (g *ledger) recycle() { g.inherited, g.dirt = g.inherited|g.dirt, 0 }

// unfit names the dirt that keeps the connection from going back to the pool; "": there is none.
// undoes reports whether known dirt does not.
func (g *ledger) unfit(undoes bool) string {
	d := g.dirt
	if undoes {
		d &^= dirtKnown
	}
	if d == 0 {
		return ""
	}
	return "dirty: " + d.String()
}

// undo appends the commands that undo the inherited dirt, and returns how many replies they bring. name is
// that of the connection; "": it has none.
// The node refuses them to a user who may WATCH and may not UNWATCH.
func (g *ledger) undo(dst []byte, name string) (_ []byte, replies int) {
	if g.inherited&DirtWatch != 0 {
		dst = append(dst, unwatchCommand...)
		replies++
	}
	if g.inherited&DirtName != 0 {
		dst = codec.AppendCommandString(dst, "CLIENT", "SETNAME", name)
		replies++
	}
	g.inherited = 0
	return dst, replies
}

// prepare appends the commands that switch the connection to a database and a protocol, and returns
// how many replies they bring. A node can refuse them (a database that does not exist, an ACL that
// was changed), and a command after a refused SELECT would run in the wrong database. So their
// replies must be in before a command of the holder is written.
func (g *ledger) prepare(dst []byte, db, resp int) (_ []byte, replies int) {
	if g.resp != resp {
		dst = codec.AppendCommandString(dst, "HELLO", strconv.Itoa(resp))
		replies++
	}
	if g.db != db {
		dst = codec.AppendCommandString(dst, "SELECT", strconv.Itoa(db))
		replies++
	}
	g.db, g.resp = db, resp
	return dst, replies
}
