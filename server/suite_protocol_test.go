package main

import (
	"fmt"
	"strings"
	"testing"
)

func TestSuiteProtocol(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	checkVectors(t, b, sharedNode(t), protocolVectors())
}

// protocolVectors are requests of odd forms and sizes, each cut at many places.
func protocolVectors() []bytesVector {
	arg := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	big := strings.Repeat("0123456789abcdef", 20000/16)
	many := "*1001\r\n" + arg("RPUSH")
	many += arg("sp:l") + strings.Repeat(arg("x"), 999)
	keys := ""
	for i := range 500 {
		keys += arg(fmt.Sprintf("sp:k%d", i))
	}
	return []bytesVector{
		{name: "an argument of 20 kB, again", input: "*3\r\n" + arg("SET") + arg("sp:big") + arg(big) + "*2\r\n" + arg("GET") + arg("sp:big") +
			"*2\r\n" + arg("STRLEN") + arg("sp:big")},
		{name: "a thousand arguments", input: many + "LLEN sp:l\r\nLRANGE sp:l 0 -1\r\nDEL sp:l\r\n"},
		{name: "five hundred keys", input: "*501\r\n" + arg("MGET") + keys + "*501\r\n" + arg("DEL") + keys},
		{name: "empty arguments", input: "*3\r\n" + arg("SET") + arg("") + arg("") + "*2\r\n" + arg("GET") + arg("") + "*2\r\n" + arg("DEL") + arg("")},
		{name: "a deep reply", input: "*3\r\n" + arg("EVAL") + arg("local t = {} for i = 1, 6 do t = {t, i} end return t") + arg("0")},
		{name: "a deeper reply than Lua's", input: "*3\r\n" + arg("EVAL") + arg("local t = {} for i = 1, 60 do t = {t} end return t") + arg("0")},
		{name: "null and empty aggregates", input: "GET sp:none\r\nLRANGE sp:none 0 -1\r\nLPOP sp:none 2\r\nMGET sp:none sp:none\r\nHGETALL sp:none\r\nSRANDMEMBER sp:none\r\n"},
		{name: "aggregates of aggregates", input: "HELLO x\r\nHSET sp:h f v\r\nHGETALL sp:h\r\nLCS sp:none sp:none IDX\r\nSMEMBERS sp:none\r\nDEL sp:h\r\n"},
		{name: "words in single quotes", input: "SET sp:q 'a \\' b'\r\nGET sp:q\r\nSET sp:q 'a\\nb'\r\nGET sp:q\r\nSET sp:q \"\\t\\a\\b\\\\\\\"\\q\"\r\nGET sp:q\r\nSET sp:q ''\r\nGET sp:q\r\n"},
		{name: "a byte too many behind a quote", input: "SET sp:q 'a'b\r\n", end: closes},
		{name: "count too large by one", input: "*1048577\r\n", end: waits},
		{name: "count larger than an int", input: "*9223372036854775808\r\n", end: closes},
		{name: "length of nothing", input: "*1\r\n$\r\n", end: closes},
		{name: "length of words", input: "*1\r\n$blah\r\n", end: closes},
		{name: "length with a minus", input: "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n", end: closes},
		{name: "length over 32 bits", input: "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", end: closes},
		{name: "count without digits", input: "*\r\n", end: closes},
		{name: "no dollar in the middle", input: "*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", end: closes},
		{name: "a whole reply as a request", input: "+OK\r\n:1\r\n$-1\r\n", end: goesOn},
		{name: "request behind an error", input: "GET\r\n*1\r\n$3\r\nGET\r\nPING\r\n"},
		{name: "long names of unknown commands", input: strings.Repeat("x", 200) + " " + strings.Repeat("y", 200) + " " + strings.Repeat("z", 200) + "\r\n"},
		{name: "unknown with line ends in them", input: "*2\r\n" + arg("a\r\nb") + arg("c\nd")},
		{name: "subcommands in any case", input: "ObJeCt HeLp x\r\ncOnFiG gEt\r\nobject encoding\r\nxgroup create\r\nclient list type\r\n"},
		{name: "transaction in one write", input: "MULTI\r\nSET sp:m 1\r\nINCR sp:m\r\nNOSUCH\r\nEXEC\r\nMULTI\r\nINCR sp:m\r\nEXEC\r\nDEL sp:m\r\n"},
	}
}
