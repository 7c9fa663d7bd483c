package lane

import (
	"strings"
	"testing"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

func TestReplyThatNoClientWaitsForIsUndoneByOneCommand(t *testing.T) {
	const pair, triple = "*2\r\n$1\r\nk\r\n$1\r\na\r\n", "*3\r\n$1\r\nk\r\n$1\r\na\r\n"
	for _, c := range []struct {
		request, reply string
		undo           string // "": nothing to send
		takes          bool
	}{
		{"BLPOP k 0", pair, "LPUSH k a", true},
		{"BRPOP k l 0", pair, "RPUSH k a", true},
		{"BLMPOP 0 2 k l LEFT COUNT 2", "*2\r\n$1\r\nk\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n", "LPUSH k b a", true},
		{"BLMPOP 0 1 k right", "*2\r\n$1\r\nk\r\n*1\r\n$1\r\na\r\n", "RPUSH k a", true},
		{"BLMPOP 0 -9 k left", "*2\r\n$1\r\nk\r\n*1\r\n$1\r\na\r\n", "RPUSH k a", true}, // no node should accept it
		{"BZPOPMIN k 0", triple + "$3\r\n1.5\r\n", "ZADD k NX 1.5 a", true},
		{"BZPOPMAX k 0", triple + ",inf\r\n", "ZADD k NX inf a", true},
		{"BZMPOP 0 1 k MIN", "*2\r\n$1\r\nk\r\n*2\r\n*2\r\n$1\r\na\r\n,1\r\n*2\r\n$1\r\nb\r\n,2.5\r\n", "ZADD k NX 1 a 2.5 b", true},
		{"BLMOVE k l LEFT RIGHT 0", "$1\r\na\r\n", "", false}, // the element is in l
		{"BLPOP k 0", "$1\r\na\r\n", "", true},
		{"BLPOP k 0", "*1\r\n$1\r\nk\r\n", "", true},
		{"BZPOPMIN k 0", pair, "", true},
	} {
		args := [][]byte{}
		for _, word := range strings.Fields(c.request) {
			args = append(args, []byte(word))
		}
		cmd, err := router.Builtin().Lookup(args)
		if err != nil {
			t.Fatal(err)
		}
		want := ""
		if c.undo != "" {
			want = string(codec.AppendCommandString(nil, strings.Fields(c.undo)...))
		}
		undo, takes := (&command{cmd: cmd, words: args}).giveBack([]byte(c.reply))
		if string(undo) != want || takes != c.takes {
			t.Errorf("%s, %q: %q, takes %v; want %q, %v", c.request, c.reply, undo, takes, want, c.takes)
		}
	}
}
