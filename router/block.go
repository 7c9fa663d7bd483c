package router

import (
	"strconv"
	"time"
)

// blockRule says how a command asks to block. The zero value: never.
type blockRule struct {
	arg    int  // position of the timeout in seconds, from the end when negative
	option bool // a BLOCK option with a timeout in milliseconds (XREAD, XREADGROUP)
	always bool // in a way unknown here (learned from a node)
}

// Blocks reports whether the request, as written, may wait on the node. Inside MULTI nothing does,
// whatever it says.
func (c *Command) Blocks(args [][]byte) bool {
	arg, _ := c.BlockTimeout(args)
	return arg >= 0 || c.block.always
}

// Timeout is how long a request asks to wait.
type Timeout struct {
	Arg    int           // its place among the words
	Unit   time.Duration // time.Second (a decimal fraction is allowed) or time.Millisecond
	Asked  time.Duration // 0: for ever
	Opaque bool          // it is spelt in a way that only the node judges: it is passed on as it is
}

// maxTimeout keeps deadlines within what time can count. A longer wait is the node's matter.
const maxTimeout = 50 * 365 * 24 * time.Hour

// Timeout reads the timeout of a request. ok is false when the request does not block or has no
// such argument.
func (c *Command) Timeout(args [][]byte) (t Timeout, ok bool) {
	arg, unit := c.BlockTimeout(args)
	if arg < 0 {
		return Timeout{Arg: -1, Opaque: true}, false
	}
	return ParseTimeout(args, arg, unit), true
}

// ParseTimeout reads the timeout at a known place. It takes less than Redis does, so that what it
// takes means the same there.
func ParseTimeout(args [][]byte, arg int, unit time.Duration) Timeout {
	t := Timeout{Arg: arg, Unit: unit, Opaque: true}
	text := args[arg]
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

// Left is what is left of the timeout when some of it has gone, at least a millisecond; 0: for
// ever.
func (t Timeout) Left(gone time.Duration) time.Duration {
	if t.Asked == 0 {
		return 0
	}
	return max(t.Asked-gone, time.Millisecond)
}

// Append appends so much time in the timeout's unit, rounded up to whole milliseconds; 0: for ever.
func (t Timeout) Append(dst []byte, left time.Duration) []byte {
	millis := int64((left + time.Millisecond - 1) / time.Millisecond)
	if t.Unit == time.Millisecond {
		return strconv.AppendInt(dst, millis, 10)
	}
	return strconv.AppendFloat(dst, float64(millis)/1000, 'f', -1, 64)
}

// BlockTimeout returns which argument holds the blocking timeout, and its unit: time.Second (a
// decimal fraction is allowed) or time.Millisecond. -1 when the request does not block or has no
// such argument. 0 means for ever.
func (c *Command) BlockTimeout(args [][]byte) (arg int, unit time.Duration) {
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

// blockOption reads the options of XREAD and XREADGROUP up to STREAMS, in the way the command
// itself does, and returns the position of BLOCK's value, or -1. A group, a consumer or a stream
// may be called BLOCK. An option unknown here is stepped over: at worst a request that does not
// block gets a connection of its own.
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
