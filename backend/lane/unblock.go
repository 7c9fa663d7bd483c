package lane

import (
	"bytes"
	"strconv"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/codec"
)

// unblocking asks a node, on a pipe, to end the command that a lease waits for. What the node then
// answers on the lease is the command's reply. It is a backend.Receiver on the loop of the lease's
// holder.
//
// A node that has unblocked nobody has either just answered, whose reply is on its way then, or has
// not seen the command yet: it is asked again.
//
// Redis 6.2 and 7.0 panic at CLIENT UNBLOCK of a client whose command waits for the end of a pause of
// writes (CLIENT PAUSE, a planned fail-over). There the question stands in a transaction after a write
// that does nothing: the transaction waits for the end of the pause as well, and the command, which
// came before it, has been run by then. The write is one that the user surely may run. While its slot is
// being moved the node sends it elsewhere, with the transaction: then a script without keys stands in
// its place.
type unblocking struct {
	loop      backend.Loop
	set       *pipe.Set
	addr      string
	words     []byte // CLIENT UNBLOCK …, or the transaction
	replies   int    // to words
	keyless   []byte // what is said instead if the node sends the write elsewhere; nil: nothing
	elsewhere bool   // it has
	waits     func() bool
	end       func(unblockOutcome)
	afterStep func() // after each step that an event caused; may be nil

	owed  bool // the node's answer to the latest question
	tries int
	timer *time.Timer // of the next question
	over  bool        // it asks no more
}

// unblockOutcome is how the questions ended.
type unblockOutcome uint8

const (
	unblocked  unblockOutcome = iota // the node has ended the command: its reply is on its way
	answered                         // the command has been answered
	notSent                          // there is no connection for the question
	unanswered                       // the node will not say: it may unblock whoever has the connection next
	refusedTo                        // the user may not, or the node does not know CLIENT UNBLOCK
	inVain                           // the node finds nobody to unblock
)

const (
	unblockPause = 2 * time.Millisecond // before the second question; doubled with each
	unblockTries = 10                   // two seconds in all
)

// newUnblocking prepares the questions. waits reports whether the command is unanswered still; end
// runs once. set is the pipes of a user who may ask. write does nothing; nil: the node does not panic.
func newUnblocking(loop backend.Loop, set *pipe.Set, lease *pool.Lease, write []byte, waits func() bool, end func(unblockOutcome), words ...string) *unblocking {
	u := &unblocking{loop: loop, set: set, addr: lease.Addr(), waits: waits, end: end, replies: 1}
	u.words = codec.AppendCommandString(nil, append([]string{"CLIENT", "UNBLOCK", strconv.FormatInt(lease.NodeID(), 10)}, words...)...)
	if write != nil {
		u.words, u.keyless, u.replies = inTransaction(write, u.words), inTransaction(keylessWrite, u.words), 4
	}
	return u
}

// keylessWrite is a write that does nothing, and goes to any node.
var keylessWrite = codec.AppendCommandString(nil, "EVAL", "return 0", "0")

func inTransaction(commands ...[]byte) []byte {
	b := codec.AppendCommandString(nil, "MULTI")
	return codec.AppendCommandString(append(b, bytes.Join(commands, nil)...), "EXEC")
}

// ask puts the question.
func (u *unblocking) ask() {
	u.tries++
	if err := u.set.Node(u.addr).Send(u.words, u.replies, u); err != nil {
		u.finish(notSent)
		return
	}
	u.owed = true
}

// finish ends the questions.
func (u *unblocking) finish(how unblockOutcome) {
	u.stop()
	u.end(how)
}

// Reply takes the node's answer.
func (u *unblocking) Reply(reply, _ []byte, more int) {
	if more > 0 { // OK, QUEUED, or the node's refusal to queue
		u.elsewhere = u.elsewhere || bytes.HasPrefix(reply, []byte("-MOVED ")) || bytes.HasPrefix(reply, []byte("-ASK ")) ||
			bytes.HasPrefix(reply, []byte("-TRYAGAIN "))
		return
	}
	u.owed = false
	if u.over {
		return
	}
	if u.elsewhere && u.keyless != nil {
		u.words, u.keyless, u.elsewhere = u.keyless, nil, false
		u.ask()
		u.stepped()
		return
	}
	if reply[0] == '*' { // EXEC's: the answer is its last element
		end := bytes.TrimSuffix(reply, []byte("\r\n"))
		reply = reply[bytes.LastIndexByte(end, '\n')+1:]
	}
	switch {
	case reply[0] != ':':
		u.finish(refusedTo)
	case reply[1] != '0':
		u.finish(unblocked)
	case !u.waits():
		u.finish(answered)
	case u.tries == unblockTries:
		u.finish(inVain)
	default:
		u.timer = time.AfterFunc(unblockPause<<(u.tries-1), func() { u.loop.Post(u.askAgain) })
	}
	u.stepped()
}

func (u *unblocking) askAgain() {
	switch {
	case u.over:
		return
	case u.waits():
		u.ask()
	default:
		u.finish(answered)
	}
	u.stepped()
}

// Lost says that there will be no answer.
func (u *unblocking) Lost(*backend.LostError, []byte) {
	u.owed = false
	if !u.over {
		u.finish(unanswered)
		u.stepped()
	}
}

func (u *unblocking) stepped() {
	if u.afterStep != nil {
		u.afterStep()
	}
}

// stop asks no more.
func (u *unblocking) stop() {
	u.over = true
	if u.timer != nil {
		u.timer.Stop()
	}
}

// UnblockLease has a node end what a lease waits for, in the name of a user who may; the holder
// keeps the connection. waits reports whether the command is unanswered still. fail runs when the
// node cannot be made to end it. The question may come late, when the command has been answered: so
// the connection will not be another holder's.
func (ls *Lanes) UnblockLease(lease *pool.Lease, by backend.Identity, withError bool, waits func() bool, fail func()) {
	reason := "TIMEOUT"
	if withError {
		reason = "ERROR"
	}
	lease.Mark(pool.DirtOther)
	if lease.NodeID() == 0 {
		fail()
		return
	}
	set := ls.loop.Pipes().Attach(by)
	var write []byte
	if ls.shared.Settings().UnblockPanics {
		write = keylessWrite
	}
	newUnblocking(ls.loop, set, lease, write, waits, func(how unblockOutcome) {
		set.Detach()
		if how != unblocked && how != answered && waits() {
			fail()
		}
	}, reason).ask()
}
