package router

import "time"

// blockRule says how a command asks to block. The zero value: never.
type blockRule struct {
	arg    int  // position of the timeout in seconds, from the end when negative
	option bool // a BLOCK option with a timeout in milliseconds (XREAD, XREADGROUP)
	always bool // in a way unknown here (learned from a node)
}

// Blocks tells whether the request, as written, may wait on the node. Inside MULTI nothing does, whatever it says.
func (c *Command) Blocks(args [][]byte) bool {
	arg, _ := c.BlockTimeout(args)
	return arg >= 0 || c.block.always
}

// BlockTimeout returns which argument holds the blocking timeout, and its unit: time.Second (a decimal fraction is
// allowed) or time.Millisecond. -1 when the request does not block or has no such argument. 0 means for ever.
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

// blockOption reads the options of XREAD and XREADGROUP up to STREAMS, in the way the command itself does, and returns
// the position of BLOCK's value, or -1. A group, a consumer or a stream may be called BLOCK. An option unknown here is
// stepped over: at worst a request that does not block gets a connection of its own.
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
