package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// A bytesVector is what a client sends, and how the answer is to end. Unless berth is stricter than Redis on purpose, its
// answer is compared with that of a redis-server, byte by byte.
type bytesVector struct {
	name  string
	input string
	end   vectorEnd
	berth string // stricter than Redis: all that berth answers
}

type vectorEnd uint8

const (
	goesOn vectorEnd = iota // the next command is answered
	closes                  // the server closes
	waits                   // no answer: the request is not complete
)

var bytesVectors = []bytesVector{
	{name: "empty array", input: "*0\r\n"},
	{name: "null array", input: "*-1\r\n"},
	{name: "blank lines", input: "\r\n\r\n\n"},
	{name: "ping", input: "*1\r\n$4\r\nPING\r\n"},
	{name: "empty command name", input: "*1\r\n$0\r\n\r\n"},
	{name: "empty command name with arguments", input: "*3\r\n$0\r\n\r\n$1\r\na\r\n$0\r\n\r\n"},
	{name: "unknown command", input: "*2\r\n$6\r\nfoobar\r\n$3\r\na'b\r\n"},
	{name: "unknown subcommand", input: "*2\r\n$6\r\nOBJECT\r\n$3\r\nfoo\r\n"},
	{name: "wrong arity", input: "*1\r\n$3\r\nGET\r\n"},
	{name: "binary argument", input: "*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\x00$\r\n"},
	{name: "empty things between commands", input: "*0\r\n*1\r\n$4\r\nPING\r\n\r\n*-1\r\n*2\r\n$3\r\nGET\r\n$6\r\nnobody\r\n"},

	{name: "count over 2^31 - 1, without a sign", input: "*99999999999999999999\r\n", end: closes},
	{name: "negative counts", input: "*-2\r\n*-99\r\nPING\r\n"},
	{name: "minus without digits", input: "*-\r\n", end: closes},
	{name: "no count at all", input: "*\r\n", end: closes},
	{name: "no length at all", input: "*1\r\n$\r\n", end: closes},
	{name: "length with plus", input: "*1\r\n$+4\r\nPING\r\n", end: closes},
	{name: "length of a blank", input: "*1\r\n$ 4\r\nPING\r\n", end: closes},
	{name: "inline ping with LF alone", input: "PING\n"},
	{name: "inline with blanks", input: "  ping   \r\n"},
	{name: "inline quotes and escapes", input: "set vec:q \"a\\x00b\\n\" \r\nget vec:q\r\necho 'it\\'s'\r\n"},
	{name: "inline unknown command", input: "nonsense a b\r\n"},
	{name: "inline among multibulk", input: "PING\r\n*1\r\n$4\r\nPING\r\nECHO x\r\n"},
	{name: "unbalanced quotes", input: "set a \"b\r\n", end: closes},
	{name: "quote followed by a letter", input: "set a \"b\"c\r\n", end: closes},

	{name: "count with leading zero", input: "*01\r\n", end: closes},
	{name: "count with plus", input: "*+1\r\n", end: closes},
	{name: "count 2^31", input: "*2147483648\r\n", end: closes},
	{name: "count of letters", input: "*x\r\n", end: closes},
	{name: "largest count", input: "*2147483647\r\n$3\r\nGET\r\n", end: waits},
	{name: "length with leading zero", input: "*1\r\n$04\r\nPING\r\n", end: closes},
	{name: "negative length", input: "*1\r\n$-1\r\n", end: closes},
	{name: "length over the limit", input: "*2\r\n$3\r\nGET\r\n$536870913\r\n", end: closes},
	{name: "length at the limit", input: "*2\r\n$3\r\nGET\r\n$536870912\r\nabc", end: waits},
	{name: "letter for dollar", input: "*1\r\nfoo\r\n", end: closes},
	{name: "star for dollar", input: "*1\r\n*1\r\n", end: closes},
	{name: "half a command", input: "*2\r\n$3\r\nGET\r\n$6\r\nnob", end: waits},

	{name: "garbage behind good commands", input: "*3\r\n$3\r\nSET\r\n$5\r\nvec:g\r\n$1\r\n1\r\n*2\r\n$3\r\nGET\r\n$5\r\nvec:g\r\n*1\r\n!bad\r\nPING\r\n", end: closes},
	{name: "bad length behind a transaction", input: "MULTI\r\nset vec:g 2\r\nEXEC\r\n*1\r\n$99999999999999999999\r\n", end: closes},
	{name: "QUIT and more", input: "*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n", end: closes},
	{name: "commands, QUIT and more", input: "set vec:quit 1\r\nget vec:quit\r\nQUIT\r\nget vec:quit\r\n", end: closes},
	{name: "QUIT inside MULTI", input: "MULTI\r\nset vec:quit 2\r\nQUIT\r\nEXEC\r\n", end: closes},

	{name: "POST", input: "POST / HTTP/1.1\r\nHost: example.org\r\n\r\n", end: closes},
	{name: "Host: behind an unknown method", input: "Host: example.org\r\n\r\n", end: closes},
	{name: "POST in a multibulk", input: "*2\r\n$4\r\nPOST\r\n$1\r\n/\r\n", end: closes},

	{name: "EXEC without MULTI", input: "EXEC\r\n"},
	{name: "DISCARD without MULTI", input: "DISCARD\r\n"},
	{name: "empty transaction", input: "MULTI\r\nEXEC\r\n"},
	{name: "nested MULTI", input: "MULTI\r\nMULTI\r\nset vec:m 1\r\nEXEC\r\n"},
	{name: "WATCH inside MULTI", input: "MULTI\r\nWATCH vec:m\r\nset vec:m 2\r\nEXEC\r\n"},
	{name: "unknown command inside MULTI", input: "MULTI\r\nnonsense\r\nset vec:m 3\r\nEXEC\r\nget vec:m\r\n"},
	{name: "wrong arity inside MULTI", input: "MULTI\r\nget\r\nEXEC\r\n"},
	{name: "transaction with an error at run time", input: "MULTI\r\nset vec:m 3\r\nlpush vec:m 1\r\nget vec:m\r\nEXEC\r\n"},
	{name: "EXEC with an argument", input: "MULTI\r\nset vec:m 5\r\nEXEC x\r\nEXEC\r\n"},
	{name: "UNWATCH inside MULTI", input: "MULTI\r\nUNWATCH\r\nPING\r\nEXEC\r\n"},
	{name: "DISCARD", input: "MULTI\r\nset vec:m 4\r\nDISCARD\r\nget vec:nothing\r\n"},

	{name: "CLIENT REPLY SKIP", input: "CLIENT REPLY SKIP\r\nPING\r\nPING\r\n"},
	{name: "CLIENT REPLY OFF and ON", input: "CLIENT REPLY OFF\r\nPING\r\nset vec:r 1\r\nCLIENT REPLY ON\r\nPING\r\n"},
	{name: "CLIENT REPLY SKIP before a node's command", input: "CLIENT REPLY SKIP\r\nset vec:r 2\r\nget vec:r\r\n"},
	{name: "CLIENT REPLY with a wrong word", input: "CLIENT REPLY MAYBE\r\nPING\r\n"},

	{name: "subscribed in RESP2", input: "SUBSCRIBE vec:c\r\nPING\r\nPING x\r\nGET a\r\nset a b\r\nUNSUBSCRIBE vec:c\r\n"},
	{name: "unsubscribe without subscriptions", input: "UNSUBSCRIBE\r\nPUNSUBSCRIBE a b\r\n"},
	{name: "protocol version out of range", input: "HELLO 4\r\nHELLO x\r\n"},
	{name: "SELECT of nothing", input: "SELECT 99\r\nSELECT x\r\nSELECT -1\r\n"},

	{name: "CR without LF behind the count", input: "*1\rX$4\rYPING\r\n", end: closes,
		berth: "-ERR Protocol error: expected CR LF after multibulk length\r\n"},
	{name: "other bytes behind an argument", input: "*1\r\n$4\r\nPINGXX", end: closes,
		berth: "-ERR Protocol error: expected CR LF after bulk\r\n"},
}

// longVectors are requests of odd sizes, and some that only a client that has authenticated may send.
func longVectors() []bytesVector {
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
		{name: "length of words", input: "*1\r\n$blah\r\n", end: closes},
		{name: "length with a minus", input: "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-10\r\n", end: closes},
		{name: "length over 32 bits", input: "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$2000000000\r\n", end: closes},
		{name: "no dollar in the middle", input: "*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", end: closes},
		{name: "a whole reply as a request", input: "+OK\r\n:1\r\n$-1\r\n", end: goesOn},
		{name: "request behind an error", input: "GET\r\n*1\r\n$3\r\nGET\r\nPING\r\n"},
		{name: "long names of unknown commands", input: strings.Repeat("x", 200) + " " + strings.Repeat("y", 200) + " " + strings.Repeat("z", 200) + "\r\n"},
		{name: "unknown with line ends in them", input: "*2\r\n" + arg("a\r\nb") + arg("c\nd")},
		{name: "subcommands in any case", input: "ObJeCt HeLp x\r\ncOnFiG gEt\r\nobject encoding\r\nxgroup create\r\nclient list type\r\n"},
		{name: "transaction in one write", input: "MULTI\r\nSET sp:m 1\r\nINCR sp:m\r\nNOSUCH\r\nEXEC\r\nMULTI\r\nINCR sp:m\r\nEXEC\r\nDEL sp:m\r\n"},
	}
}

// sentinel is a command whose answer marks the end of all answers before it, also for a client that is subscribed or not
// authenticated.
const (
	sentinel      = "*1\r\n$8\r\nsentinel\r\n"
	sentinelReply = "-ERR unknown command 'sentinel', with args beginning with: \r\n"
)

// answerTo is all that comes back on a connection to which send has sent an input that ends so.
func answerTo(c *redistest.Conn, end vectorEnd) string {
	switch end {
	case closes:
	case waits:
		c.CloseWrite()
	default:
		c.WriteString(sentinel)
		got := c.ReadUntil(sentinelReply)
		return strings.TrimSuffix(got, sentinelReply)
	}
	return c.ReadAll()
}

// redisAnswers is what a redis-server says to a vector.
func redisAnswers(t *testing.T, node *redistest.Server, v bytesVector) string {
	c := dial(t, node.Addr())
	defer c.Close()
	c.WriteString(v.input)
	return answerTo(c, v.end)
}

func (v bytesVector) want(t *testing.T, node *redistest.Server) string {
	if v.berth != "" {
		return v.berth
	}
	return redisAnswers(t, node, v)
}

// berthAnswers is what berth says to an input that comes in pieces of their own reads.
func berthAnswers(t *testing.T, b *berthServer, end vectorEnd, pieces ...string) string {
	t.Helper()
	c := dial(t, b.Addr())
	c.SetTimeout(3 * time.Second)
	defer c.Close()
	for _, p := range pieces {
		b.feed(c, p)
	}
	return answerTo(c, end)
}

func TestVectorsAreAnsweredAsRedisDoes(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	checkVectors(t, b, sharedNode(t), bytesVectors)
	checkVectors(t, b, sharedNode(t), longVectors())
}

// checkVectors sends each vector whole, cut in two at every byte (a long one at five hundred), and byte by byte.
func checkVectors(t *testing.T, b *berthServer, node *redistest.Server, vectors []bytesVector) {
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			want := v.want(t, node)
			if got := berthAnswers(t, b, v.end, v.input); got != want {
				t.Errorf("whole:\n got %q\nwant %q", got, want)
				return
			}
			for i := 1; i < len(v.input); i += 1 + len(v.input)/sized(80, 500) {
				if got := berthAnswers(t, b, v.end, v.input[:i], v.input[i:]); got != want {
					t.Errorf("cut behind %q:\n got %q\nwant %q", v.input[:i], got, want)
					return
				}
			}
			if len(v.input) > 500 {
				return
			}
			if got := berthAnswers(t, b, v.end, strings.Split(v.input, "")...); got != want {
				t.Errorf("byte by byte:\n got %q\nwant %q", got, want)
			}
		})
	}
}

var unauthenticatedVectors = []bytesVector{
	{name: "get", input: "get a\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n"},
	{name: "ping, command, time", input: "PING\r\nCOMMAND\r\nTIME\r\nECHO x\r\n"},
	{name: "unknown command and wrong arity", input: "nonsense\r\nget\r\n"},
	{name: "hello 3", input: "hello 3\r\nPING\r\n"},
	{name: "hello alone", input: "HELLO\r\n"},
	{name: "hello with a wrong password", input: "HELLO 3 AUTH default nope\r\nPING\r\n"},
	// One at a time: some nodes leave out the refusal of an AUTH that is sent together with others.
	{name: "wrong password", input: "AUTH nope\r\nget a\r\n"},
	{name: "wrong password of the default user", input: "AUTH default nope\r\nget a\r\n"},
	{name: "password of nobody", input: "AUTH nobody nope\r\nget a\r\n"},
	{name: "AUTH with too many arguments", input: "AUTH a b c\r\nAUTH\r\n"},
	{name: "right password", input: "get a\r\nAUTH secret\r\nget vec:nothing\r\n"},
	{name: "right password as default", input: "AUTH default secret\r\nget vec:nothing\r\nRESET\r\nget vec:nothing\r\n"},
	{name: "transaction", input: "MULTI\r\nset a b\r\nEXEC\r\nDISCARD\r\nWATCH a\r\n"},
	{name: "RESET", input: "RESET\r\nget a\r\n"},
	{name: "QUIT", input: "QUIT\r\nPING\r\n", end: closes},
	{name: "ten arguments", input: "*10\r\n" + strings.Repeat("$1\r\na\r\n", 10)},
	{name: "eleven arguments", input: "*11\r\n", end: closes},
	{name: "argument at the limit", input: "*2\r\n$3\r\nGET\r\n$16384\r\nabc", end: waits},
	{name: "argument over the limit", input: "*2\r\n$3\r\nGET\r\n$16385\r\n", end: closes},
	{name: "eleven arguments behind the password", input: "AUTH secret\r\n*11\r\n$3\r\nDEL\r\n" + strings.Repeat("$1\r\na\r\n", 10)},
	{name: "long argument behind the password", input: "AUTH secret\r\n*2\r\n$4\r\nECHO\r\n$16385\r\n" + strings.Repeat("x", 16385) + "\r\n"},
	{name: "POST", input: "POST / HTTP/1.1\r\nHost: x\r\n\r\n", end: closes},
}

func TestUnauthenticatedVectorsAreAnsweredAsRedisDoes(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--requirepass", "secret")
	b := startBerth(t, "redis://:secret@"+node.Addr())
	checkVectors(t, b, node, unauthenticatedVectors)
	checkVectors(t, b, node, bytesVectors)
}

func TestLongInlineRequestsAreRefusedAsRedisDoes(t *testing.T) {
	node := sharedNode(t)
	b := startBerth(t, node.Addr())
	for _, v := range []bytesVector{
		{input: "ECHO " + strings.Repeat("x", 60000) + "\r\n"},
		{input: strings.Repeat("x", 70000), end: closes},
		{input: "*" + strings.Repeat("1", 70000), end: closes},
		{input: "*1\r\n$" + strings.Repeat("1", 70000), end: closes},
	} {
		want := redisAnswers(t, node, v)
		half := len(v.input) / 2
		for _, pieces := range [][]string{{v.input}, {v.input[:half], v.input[half:]}, {v.input[:7], v.input[7:]}} {
			if got := berthAnswers(t, b, v.end, pieces...); got != want {
				t.Errorf("%.20q… in %d pieces:\n got %.200q\nwant %.200q", v.input, len(pieces), got, want)
			}
		}
	}
}

func TestCommandsOfOneWriteAreAnsweredInOrderWhateverItsPieces(t *testing.T) {
	node := sharedNode(t)
	b := startBerth(t, node.Addr())
	var in strings.Builder
	for range 20 {
		in.WriteString("*2\r\n$4\r\nINCR\r\n$5\r\nvec:n\r\nECHO \"a b\"\r\n*3\r\n$5\r\nRPUSH\r\n$8\r\nvec:list\r\n$3\r\n\r\n\x00\r\n*2\r\n$4\r\nLLEN\r\n$8\r\nvec:list\r\nPING\r\nget\r\n")
	}
	v := bytesVector{input: in.String()}
	direct := dial(t, node.Addr())
	direct.Do("DEL", "vec:n", "vec:list")
	want := redisAnswers(t, node, v)
	for _, size := range []int{len(v.input), 1, 2, 3, 7, 64, 1000} {
		direct.Do("DEL", "vec:n", "vec:list")
		var pieces []string
		for rest := v.input; rest != ""; {
			n := min(size, len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		if got := berthAnswers(t, b, v.end, pieces...); got != want {
			t.Errorf("in pieces of %d:\n got %q\nwant %q", size, got, want)
		}
	}
}
