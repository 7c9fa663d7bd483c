package pool

import (
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/codec"
)

// Dirt is what a holder has told a connection that the next holder must not find there. Bits add
// up.
type Dirt uint16

const (
	// Known dirt: the pool undoes it ahead of the next holder's first command.

	DirtWatch Dirt = 1 << iota // WATCH without EXEC, DISCARD or UNWATCH
	DirtName                   // CLIENT SETNAME

	// Anything else costs the connection.

	DirtMulti    // MULTI is open
	DirtAuth     // AUTH, or HELLO with AUTH: the connection is another user's
	DirtTracking // CLIENT TRACKING
	DirtStream   // SUBSCRIBE, MONITOR: replies come that no command is owed, and go to the holder
	DirtOther    // whatever has no name here

	dirtKnown = DirtWatch | DirtName
)

var dirtNames = [...]string{"watch", "name", "multi", "auth", "tracking", "stream", "other"}

func (d Dirt) String() string {
	var names []string
	for i, name := range dirtNames {
		if d&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "+")
}

// ledger is what a connection has been told, as opposed to what it is told anew with every command.
// It belongs to whoever owns the connection.
type ledger struct {
	db        int
	resp      int
	dirt      Dirt // from the holder of now
	inherited Dirt // from holders before, all of it known
}

// recycle makes the holder of now one of those before. The ledger must not be unfit.
func (g *ledger) recycle() { g.inherited, g.dirt = g.inherited|g.dirt, 0 }

// unfit names the dirt for which the connection cannot go back to the pool, or "" if there is none.
func (g *ledger) unfit() string {
	if d := g.dirt &^ dirtKnown; d != 0 {
		return "dirty: " + d.String()
	}
	return ""
}

// undo appends the commands that undo what earlier holders have left, and how many replies they
// bring. None of them can be refused by a node that accepted what they undo.
func (g *ledger) undo(dst []byte) (_ []byte, replies int) {
	if g.inherited&DirtWatch != 0 {
		dst = codec.AppendCommandString(dst, "UNWATCH")
		replies++
	}
	if g.inherited&DirtName != 0 {
		dst = codec.AppendCommandString(dst, "CLIENT", "SETNAME", "")
		replies++
	}
	g.inherited = 0
	return dst, replies
}

// prepare appends the commands that turn the connection to a database and a protocol, and how many
// replies they bring. Both can be refused (a database that does not exist, an ACL that was
// changed), and what follows a refused SELECT would run in the wrong database: the replies must be
// in before a command of the holder goes out.
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
