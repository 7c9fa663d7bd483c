package main

import (
	"strconv"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
)

// cancel asks a node, on a pipe, to end the command of a lane that is leaving. The connection is clean again when both have
// been answered: this question and the command. It is a backend.Receiver on the lane's loop.
//
// A node that has unblocked nobody has either just served the lane, whose reply is on its way then, or has not seen its
// command yet: it is asked again, and only when no reply comes for long the connection is closed.
type cancel struct {
	ln    *lane
	owed  bool // the node's answer to the latest question
	tries int
	timer *time.Timer // of the next question
	over  bool        // the lane does not ask any more
}

const (
	cancelPause = 2 * time.Millisecond // before the second question; doubled with each
	cancelTries = 10                   // two seconds in all
)

// ask puts the question.
func (c *cancel) ask() {
	ln := c.ln
	c.tries++
	command := codec.AppendCommandString(nil, "CLIENT", "UNBLOCK", strconv.FormatInt(ln.lease.NodeID(), 10))
	if err := ln.g.pipes.Node(ln.addr).Send(command, 1, c); err != nil {
		c.over = true
		ln.close("client left")
		return
	}
	c.owed = true
}

// Reply takes the node's answer.
func (c *cancel) Reply(reply, _ []byte, _ int) {
	c.owed = false
	if c.over {
		return
	}
	ln := c.ln
	unblocked := reply[0] == ':' && reply[1] != '0'
	if unblocked {
		ln.g.l.stats.Cancels.Unblocked++
	}
	switch {
	case reply[0] != ':':
		c.giveUp("unblock refused")
	case ln.answered:
		c.stop()
		ln.proceed()
	case unblocked: // the command's nil is on its way
	case c.tries == cancelTries:
		c.giveUp("unblock in vain")
	default:
		l := ln.g.l
		c.timer = time.AfterFunc(cancelPause<<(c.tries-1), func() {
			l.Post(func() {
				if !c.over {
					c.ask()
					ln.g.adjust()
				}
			})
		})
	}
	ln.g.adjust()
}

// Lost says that there will be no answer. The question may come to the node later, when the connection is another client's.
func (c *cancel) Lost(*backend.LostError, []byte) {
	c.owed = false
	if !c.over {
		c.giveUp("unblock lost")
		c.ln.g.adjust()
	}
}

// giveUp ends the lane with its connection.
func (c *cancel) giveUp(why string) {
	c.stop()
	c.ln.close(why)
}

// stop asks no more.
func (c *cancel) stop() {
	c.over = true
	if c.timer != nil {
		c.timer.Stop()
	}
}
