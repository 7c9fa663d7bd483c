package router

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// blockRule says how a command asks to block. The zero value: it never does.
type blockRule struct {
	arg    int  // position of the timeout in seconds, from the end when negative; 0: none
	option bool // a BLOCK option has the timeout, in milliseconds (XREAD, XREADGROUP)
	node   bool // it keeps the whole node, for as long as its work takes: nobody can wait with it (MIGRATE)
	always bool // it may always block; nothing says where a timeout is
	cas    bool // it blocks with the word CAS (VADD): a thread of the node has the first half of the work
}

// Blocks reports whether the request, as written, may wait on the node. Inside MULTI no command
// waits.
func (c *Command) Blocks(args [][]byte) bool {
	arg, _ := c.timeoutArg(args)
	return arg >= 0 || c.block.always || c.block.node || c.block.cas && hasCAS(args)
}

// hasCAS reports whether a word of VADD is CAS. It may be an element of that name: at worst a
// request that does not block gets a connection of its own.
func hasCAS(args [][]byte) bool {
	for i := len(args) - 1; i > 1; i-- {
		if equalWord(args[i], "CAS") {
			return true
		}
	}
	return false
}

// aside are what the names of commands begin with that a module's own threads answer, while COMMAND
// does not call them blocking: those of RediSearch and RedisGraph.
var aside = []string{"ft.", "graph."}

// answeredAside reports whether a module's threads answer the command of this name.
func answeredAside(name string) bool {
	return slices.ContainsFunc(aside, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// Waits reports whether the command does nothing while it blocks but wait for its timeout, or for
// others.
func (c *Command) Waits() bool { return c.block.arg != 0 || c.block.option }

// BlocksNode reports whether the command keeps the node from everything else: it does not wait for
// a push, and cannot wait together with others.
func (c *Command) BlocksNode() bool { return c.block.node }

// Timeout is how long a request asks to wait.
type Timeout struct {
	Arg    int           // its position among the arguments
	Unit   time.Duration // time.Second (a decimal fraction is allowed) or time.Millisecond
	Asked  time.Duration // 0: for ever
	Opaque bool          // berth does not read the text and passes it on unchanged: the node judges it
}

const (
	// maxTimeout keeps deadlines within what an int64 of nanoseconds can count.
	maxTimeout = 50 * 365 * 24 * time.Hour
	// maxTimeoutText is the longest text that is read, in bytes. A longer one may be a time too
	// short for a float64, which would be 0, for ever.
	maxTimeoutText = 32
	// minTimeLeft is the shortest time that is written. 0 would be for ever, and Redis before 7.0
	// reads a timeout of 0.001 s as 0.
	minTimeLeft = 2 * time.Millisecond
)

// Timeout reads the timeout of a request. ok is false when the request does not block or has no
// such argument.
func (c *Command) Timeout(args [][]byte) (t Timeout, ok bool) {
	arg, unit := c.timeoutArg(args)
	if arg < 0 {
		return Timeout{Arg: -1, Opaque: true}, false
	}
	return ParseTimeout(args, arg, unit), true
}

// ParseTimeout reads the timeout at args[arg]. It accepts less than Redis does (digits without a
// leading zero, and a fraction of seconds), so that what it accepts is the same time there.
func ParseTimeout(args [][]byte, arg int, unit time.Duration) Timeout {
	t := Timeout{Arg: arg, Unit: unit, Opaque: true}
	text := args[arg]
	if len(text) > maxTimeoutText || len(text) > 1 && text[0] == '0' && text[1] != '.' {
		return t
	}
	for i, c := range text {
		if (c < '0' || c > '9') && (c != '.' || unit != time.Second || i == 0 || i == len(text)-1) {
			return t
		}
	}
	v, err := strconv.ParseFloat(string(text), 64)
	if err != nil || v*float64(unit) > float64(maxTimeout) {
		return t
	}
	t.Opaque = false
	t.Asked = time.Duration(v * float64(unit))
	if v > 0 {
		t.Asked = max(t.Asked, time.Millisecond)
	}
	return t
}

// AppendLeft appends the time that is left of the timeout, in its unit and rounded up to whole
// milliseconds. It never appends 0, which would be for ever, however little is left.
func (t Timeout) AppendLeft(dst []byte, left time.Duration) []byte {
	left = max(left, minTimeLeft)
	millis := int64((left + time.Millisecond - 1) / time.Millisecond)
	if t.Unit == time.Millisecond {
		return strconv.AppendInt(dst, millis, 10)
	}
	return strconv.AppendFloat(dst, float64(millis)/1000, 'f', -1, 64)
}

// timeoutArg returns the position and the unit of the timeout argument. arg is -1 when the request
// does not block or has no such argument.
func (c *Command) timeoutArg(args [][]byte) (arg int, unit time.Duration) {
	if c.block.option {
		return blockOption(args), time.Millisecond
	}
	arg = c.block.arg
	if arg < 0 {
		arg += len(args)
	}
	if arg <= 0 || arg >= len(args) {
		return -1, 0
	}
	return arg, time.Second
}

// blockOption reads the options of XREAD and XREADGROUP up to STREAMS, as Redis does, and returns
// the position of BLOCK's value, or -1. A group, a consumer or a stream may be called BLOCK. An
// unknown option is skipped: at worst a request that does not block gets a connection of its own.
func blockOption(args [][]byte) int {
	for i := 1; i < len(args)-1; i++ {
		switch {
		case equalWord(args[i], "STREAMS"):
			return -1
		case equalWord(args[i], "BLOCK"):
			return i + 1
		case equalWord(args[i], "COUNT"), equalWord(args[i], "CLAIM"):
			i++
		case equalWord(args[i], "GROUP"):
			i += 2
		}
	}
	return -1
}
