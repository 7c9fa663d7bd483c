package main

import "github.com/berth-proxy/berth/codec"

// appendHelp appends the reply to a container's HELP, in the form of Redis: a line that says how,
// the subcommands with what they do indented below, and HELP itself.
func appendHelp(dst []byte, container string, lines ...string) []byte {
	dst = codec.AppendArray(dst, len(lines)+3)
	dst = codec.AppendSimple(dst, container+" <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
	for _, line := range lines {
		dst = codec.AppendSimple(dst, line)
	}
	dst = codec.AppendSimple(dst, "HELP")
	return codec.AppendSimple(dst, "    Prints this help.")
}
