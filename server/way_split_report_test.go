package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/router"
)

func TestReportsOfNodesAreJoinedByName(t *testing.T) {
	for _, c := range []struct{ command, parts, want string }{
		{"memory|stats", "*4|+a|:1|+x.ratio|$3|1.5 *4|+x.ratio|$3|2.5|+b|:2", "*6|+a|:1|+x.ratio|$3|2.5|+b|:2"},
		{"memory|stats", "%2|+keys.bytes-per-key|:4|+x|,0.5 %1|+keys.bytes-per-key|:9", "%2|+keys.bytes-per-key|:9|+x|,0.5"},
		{"memory|stats", "*2|+db.0|*2|+n|:1 *2|+db.0|*2|+n|:4", "*2|+db.0|*2|+n|:5"},
		{"memory|stats", "*2|+a|:1 *2|+a|+word", "*2|+a|:1"},
		{"memory|stats", "*1|+a *2|+a|:1", "*2|+a|:1"},
		{"memory|stats", "*2|+a|+b *2|+b|:1", "*4|+a|+b|+b|:1"},
		{"latency|histogram", "*2|+get|*2|+histogram_usec|:5 *2|+get|*2|+histogram_usec|:6", "*2|+get|*2|+histogram_usec|:11"},
		{"latency|histogram", "%1|+get|%2|+calls|:3|+histogram_usec|%2|:1|:1|:4|:3 %1|+get|%2|+calls|:9|+histogram_usec|%2|:2|:4|:4|:9",
			"%1|+get|%2|+calls|:12|+histogram_usec|%3|:1|:1|:2|:5|:4|:12"},
		{"latency|histogram", "*0 *2|+set|*0", "*2|+set|*0"},
		{"latency|latest", "*1|*4|+command|:100|:5|:9 *2|*4|+fork|:90|:1|:1|*4|+command|:99|:7|:30", "*2|*4|+command|:100|:5|:30|*4|+fork|:90|:1|:1"},
		{"latency|latest", "*1|*6|+command|:1|:5|:9|:20|:3 *1|*6|+command|:1|:6|:6|:10|:2", "*1|*6|+command|:1|:6|:9|:30|:5"},
		{"latency|latest", "*0 *-1", "-"}, {"memory|stats", ":1 *0", "-"}, {"memory|stats", "*0 +OK", "-"},
	} {
		j := &join{r: &request{cmd: &router.Command{Name: c.command, Join: router.JoinReport}}, failed: noPart}
		for _, reply := range strings.Fields(c.parts) {
			from := len(j.replies)
			j.replies = append(j.replies, strings.ReplaceAll(reply, "|", "\r\n")+"\r\n"...)
			j.parts = append(j.parts, part{from: from, to: len(j.replies)})
		}
		got := strings.ReplaceAll(strings.TrimSuffix(string(j.whole(nil)), "\r\n"), "\r\n", "|")
		if got != c.want && !(c.want == "-" && strings.HasPrefix(got, "-ERR berth: the shards")) {
			t.Errorf("%s of %s: %s, want %s", c.command, c.parts, got, c.want)
		}
	}
}

// A node may name very many figures: the loop must not look for each among all.
func TestVeryLongReportsAreJoinedInOnePass(t *testing.T) {
	const n = 50_000
	for command, one := range map[string]string{
		"memory|stats": ":%d\r\n:1\r\n", "latency|latest": "*4\r\n+e%d\r\n:1\r\n:1\r\n:1\r\n",
		"latency|histogram": ":%d\r\n:1\r\n",
	} {
		j := &join{r: &request{cmd: &router.Command{Name: command, Join: router.JoinReport}}, failed: noPart}
		for shard := range 2 {
			from, names := len(j.replies), n
			if command != "latency|latest" {
				names = 2 * n
			}
			head := fmt.Sprintf("*%d\r\n", names)
			if command == "latency|histogram" {
				head = "*2\r\n+get\r\n*2\r\n+histogram_usec\r\n" + head
			}
			j.replies = append(j.replies, head...)
			for i := range n {
				j.replies = fmt.Appendf(j.replies, one, shard*n+i)
			}
			j.parts = append(j.parts, part{from: from, to: len(j.replies)})
		}
		if got := j.whole(nil); len(got) < len(j.replies)-100 {
			t.Errorf("%s: %d bytes of %d", command, len(got), len(j.replies))
		}
	}
}
