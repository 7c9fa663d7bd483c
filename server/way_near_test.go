package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/near"
	"github.com/berth-proxy/berth/server/telemetry"
)

// startNear is a berth of one loop that keeps the reply to every read.
func startNear(t testing.TB, backend string, args ...string) *berthServer {
	t.Helper()
	b := startBerth(t, backend, append([]string{"--loops", "1", "--cache", "yes", "--cache-hot-rate", "0"}, args...)...)
	b.awaitNear(true)
	return b
}

// awaitNear waits until the loops have a near cache, or none.
func (b *berthServer) awaitNear(has bool) {
	b.t.Helper()
	eventually(b.t, "loops to have, or not to have, a near cache", func() bool {
		for _, is := range onLoops(b, func(l *loop) bool { return l.near != nil }) {
			if is != has {
				return false
			}
		}
		return true
	})
}

// onLoops has each loop say something.
func onLoops[R any](b *berthServer, ask func(l *loop) R) (all []R) {
	loops := b.srv.eachLoop()
	said := make(chan R, len(loops))
	for _, l := range loops {
		l.Post(func() { said <- ask(l) })
	}
	for range loops {
		all = append(all, <-said)
	}
	return all
}

// near is what the loops have counted so far.
func (b *berthServer) near() (sum telemetry.NearCounters) {
	for _, n := range onLoops(b, func(l *loop) telemetry.NearCounters { return l.stats.Near }) {
		sum.Add(n)
	}
	return sum
}

// restsWell fails the test unless no client waits for anything, and none is taken to.
func (b *berthServer) restsWell() {
	b.t.Helper()
	odd := ""
	ok := redistest.Await(10*time.Second, func() bool {
		odd = strings.Join(onLoops(b, func(l *loop) (text string) {
			for s := l.first; s != nil; s = s.next {
				if s.passing != 0 || s.fetching != 0 || s.waiting != 0 || s.pause != pauseNone {
					text += fmt.Sprintf("client %d: passing %d, fetching %d, waiting %d, pause %d; ", s.id, s.passing, s.fetching, s.waiting, s.pause)
				}
			}
			return text
		}), "")
		return odd == ""
	})
	if !ok {
		b.t.Errorf("clients do not come to rest: %s", odd)
	}
}

// nearFixtures are keys of all types with values of all kinds.
var nearFixtures = [][]any{
	{"SET", "str", "value"}, {"SET", "int", "12345"}, {"SET", "empty", ""}, {"SET", "bin\r\n\x00\xff", "a\r\n$3\r\nb\x00\xff*2\r\n"}, {"SET", "withscores", "1"},
	{"SET", "zeros", "\x00\x00"}, {"SET", "ones", "\xff\xff"},
	{"RPUSH", "list", "a", "", "b", "a", "c\r\n", "none", "0", "withscores"},
	{"SADD", "set", "one"}, {"SADD", "ints", "1", "2", "3"},
	{"ZADD", "zset", "1", "a", "1.5", "b", "-3", "c", "inf", "d", "-inf", "e", "3.0000000000000004", "f", "1e300", "withscores", "-0", "g"},
	{"ZADD", "lex", "0", "a", "0", "b", "0", "c"},
	{"HSET", "hash", "f", "v", "", "empty field", "withscores", "w", "n", "0", "b\r\n", "\r\n"},
	{"XADD", "stream", "1-1", "f", "v", "f", "w"}, {"XADD", "stream", "2-0", "", ""}, {"XADD", "gone", "1-1", "f", "v"}, {"XDEL", "gone", "1-1"},
	{"GEOADD", "geo", "13.361389", "38.115556", "Palermo", "15.087269", "37.502669", "Catania", "2.35", "48.85", "withdist"},
}

var nearKeyNames = []string{"str", "int", "empty", "bin\r\n\x00\xff", "withscores", "zeros", "ones", "list", "set", "ints", "zset", "lex", "hash", "stream", "gone", "geo", "none"}

// nearForms are the words after the key by which each command is asked.
var nearForms = map[string][]string{
	"exists": {""}, "type": {""}, "get": {""}, "mget": {""}, "strlen": {""}, "llen": {""}, "scard": {""}, "smembers": {""}, "zcard": {""},
	"hgetall": {""}, "hkeys": {""}, "hlen": {""}, "hvals": {""}, "xlen": {""},
	"getrange": {"0 -1", "0 0", "3 1", "-2 -1", "x 1"}, "substr": {"0 -1", "5 9"},
	"bitcount": {"", "0 -1", "0 5 BIT", "0 5 byte", "0", "1 x"},
	"bitpos":   {"0", "1", "1 1", "0 0 -1", "1 0 -1 BIT", "1 5 6 BYTE", "2"},
	"getbit":   {"0", "7", "100", "-1"},
	"lindex":   {"0", "-1", "1", "99", "x"}, "lpos": {"a", "a RANK 2", "a RANK -1 COUNT 0", "zz", "zz COUNT 0", "withscores COUNT 0", "a COUNT 1 MAXLEN 1", "a RANK 0"},
	"lrange":    {"0 -1", "0 0", "5 3", "-2 -1", "a b"},
	"sismember": {"one", "two", "1", "withscores"}, "smismember": {"one two", "1 2 9", "withscores", "withscores 1"},
	"zcount":    {"-inf +inf", "(1 3", "a b", "inf -inf"},
	"zlexcount": {"- +", "[a (c", "a c"},
	"zmscore":   {"a", "d e zz", "withscores", "a withscores zz"},
	"zrange": {"0 -1", "0 -1 WITHSCORES", "0 -1 REV withscores", "-inf +inf BYSCORE", "-inf +inf BYSCORE LIMIT 1 2 WITHSCORES",
		"+inf -inf BYSCORE REV WITHSCORES", "- + BYLEX", "+ - BYLEX REV LIMIT 0 1", "5 1 WITHSCORES", "- + BYLEX WITHSCORES", "0 1 LIMIT 0 1"},
	"zrangebylex":      {"- +", "[a [b", "- + LIMIT 1 1", "- + WITHSCORES"},
	"zrangebyscore":    {"-inf +inf", "-inf +inf WITHSCORES", "(1 3 withscores LIMIT 0 1", "9 1 WITHSCORES", "0 1 LIMIT 0 -1", "x y"},
	"zrank":            {"a", "zz", "withscores", "a WITHSCORE", "zz withscore"},
	"zrevrange":        {"0 -1", "0 -1 WITHSCORES", "9 10 WITHSCORES", "0 -1 x"},
	"zrevrangebylex":   {"+ -", "+ - LIMIT 0 1"},
	"zrevrangebyscore": {"+inf -inf", "+inf -inf WITHSCORES", "3 (1 WITHSCORES LIMIT 0 1"},
	"zrevrank":         {"a", "zz"},
	"zscore":           {"a", "b", "c", "d", "e", "f", "g", "zz", "withscores"},
	"hexists":          {"f", "zz"}, "hget": {"f", "zz", "withscores", "n"}, "hstrlen": {"f", "zz"},
	"hmget":     {"f", "f zz n", "withscores", "f withscores", "zz withscores zz"},
	"xrange":    {"- +", "1 1", "(1-1 +", "- + COUNT 1", "- + COUNT 0", "9 +", "x y"},
	"xrevrange": {"+ -", "+ - COUNT 1"},
	"geodist":   {"Palermo Catania", "Palermo zz", "Palermo Catania km", "Palermo Catania x"},
	"geohash":   {"", "Palermo", "Palermo zz withdist"},
	"geosearch": {"FROMLONLAT 15 37 BYRADIUS 200 km ASC", "FROMLONLAT 15 37 BYBOX 400 400 km ASC WITHCOORD WITHDIST WITHHASH", "FROMMEMBER Palermo BYRADIUS 500 km ASC COUNT 1 WITHDIST",
		"FROMMEMBER withdist BYRADIUS 1 m", "FROMMEMBER zz BYRADIUS 1 m", "FROMLONLAT 15 37 BYRADIUS 200 km DESC WITHCOORD"},
}

// nearRequests are all requests of a command.
func nearRequests(t *testing.T, command string) (all [][]any) {
	t.Helper()
	forms := nearForms[command]
	if forms == nil {
		t.Errorf("%s: no form is known by which it could be asked", command)
	}
	for _, key := range nearKeyNames {
		for _, form := range forms {
			request := []any{command, strings.ReplaceAll(key, "none", "none of "+command)}
			for _, word := range strings.Fields(form) {
				request = append(request, word)
			}
			all = append(all, request)
		}
	}
	return all
}

func TestCachedRepliesAreThoseOfTheNode(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--cache-ttl-max", "3600")
	direct := [2]*redistest.Conn{dial(t, node.Addr()), dial(t, node.Addr())}
	clients := [2]*redistest.Conn{dial(t, b.Addr()), dial(t, b.Addr())}
	direct[1].Do("HELLO", "3")
	clients[1].Do("HELLO", "3")
	for _, write := range nearFixtures {
		direct[0].Do(write...)
	}
	var right, wrong [][]any
	for _, cmd := range b.srv.table().Commands() {
		if !cmd.Is(router.Cacheable) {
			continue
		}
		for _, request := range nearRequests(t, cmd.Name) {
			switch reply := direct[0].DoRaw(request...); {
			case strings.HasPrefix(reply, "-E"), strings.HasPrefix(reply, "*-"), strings.EqualFold(fmt.Sprint(request[len(request)-1]), "withscore"): // the second is XRANGE's with COUNT 0
				wrong = append(wrong, request)
				continue
			}
			right = append(right, request)
		}
	}
	for n, request := range slices.Concat(right, wrong) {
		hits := b.near().Hits
		for turn := range 6 { // by turns in RESP2 and RESP3, three times
			want := direct[turn%2].DoRaw(request...)
			if got := clients[turn%2].DoRaw(request...); got != want {
				t.Fatalf("%q in RESP%d, time %d: %q instead of %q", request, 2+turn%2, turn/2+1, got, want)
			}
		}
		if hits = b.near().Hits - hits; n < len(right) && hits != 5 {
			t.Errorf("%q: %d of six replies came from the cache", request, hits)
		}
	}
	b.restsWell()
	t.Logf("%d requests, %d of them wrong", len(right)+len(wrong), len(wrong))
}

// kept is what the loops keep now.
func (b *berthServer) kept() (sum telemetry.Near) {
	for _, f := range onLoops(b, func(l *loop) telemetry.Near { return l.near.figures() }) {
		sum.Keys += f.Keys
		sum.Entries += f.Entries
		sum.Bytes += f.Bytes
	}
	return sum
}

// awaitDropped waits until nothing is kept of keys that stay hot.
func (b *berthServer) awaitDropped() {
	b.t.Helper()
	eventually(b.t, "what is kept to be dropped", func() bool {
		onLoops(b, func(l *loop) bool {
			for _, sp := range l.near.spaces {
				sp.table.Keys(func(k *near.Key[nearPending], _, _ int) { k.Hits = 1 << 20 })
			}
			return true
		})
		return b.kept().Entries == 0
	})
}

// hit fails the test unless a request is answered from the cache, or unless it is not.
func (b *berthServer) hit(c *redistest.Conn, want bool, request ...any) any {
	b.t.Helper()
	before := b.near().Hits
	reply := c.Do(request...)
	if hit := b.near().Hits > before; hit != want {
		b.t.Errorf("%q from the cache: %v", request, hit)
	}
	return reply
}

// warm reads until replies come from the cache.
func (b *berthServer) warm(c *redistest.Conn, request ...any) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%q to be answered from the cache", request), func() bool {
		before := b.near().Hits
		c.Do(request...)
		return b.near().Hits > before
	})
}

func TestReadsThatAreErrorsHinderNobody(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--cache-max-value", "100")
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	node.Do(t, "SET", "k", "v")
	node.Do(t, "HSET", "h", "short", "v", "long", strings.Repeat("v", 200))
	for _, read := range [][2][]any{
		{{"LRANGE", "k", "a", "b"}, {"GET", "k"}},
		{{"GETRANGE", "k", "a", "b"}, {"GET", "k"}},
		{{"HGETALL", "h"}, {"HGET", "h", "short"}},
		{{"HGET", "h", "long"}, {"HGET", "h", "short"}},
	} {
		other.Do(read[0]...)
		c.Do(read[1]...)
		for range 10 {
			other.Do(read[0]...)
			b.hit(c, true, read[1]...)
		}
	}
}

// What is there is only proved to hold for a client that has learned something else.
func TestWhatIsKeptIsNotFetchedAnew(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c := dial(t, b.Addr())
	node.Do(t, "SET", "k", "v")
	b.warm(c, "GET", "k")
	calls := func(name string) string {
		_, rest, _ := strings.Cut(fmt.Sprint(node.Do(t, "INFO", "commandstats")), "cmdstat_"+name+":calls=")
		n, _, _ := strings.Cut(rest, ",")
		return n
	}
	ttls := calls("pttl")
	for range 10 {
		c.Do("EVAL", "return 1", 0)
		b.hit(c, false, "GET", "k")
		b.hit(c, true, "GET", "k")
	}
	if now := calls("pttl"); now != ttls {
		t.Errorf("PTTL was asked %s times at first, %s in the end", ttls, now)
	}
	node.Do(t, "SET", "k", "w") // which the node still tells of
	eventually(t, "the new value", func() bool { return c.Do("GET", "k") == "w" })
}

// A read that is answered with an error by the cache's connection is asked for again on the client's. The reads
// after it must not have been run before.
func TestReadsAfterOneThatLeavesTheCacheLeaveItToo(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	node.Do(t, "SET", "k", "v")
	c, monitor := dial(t, b.Addr()), dial(t, node.Addr())
	b.warm(c, "STRLEN", "k") // the key is hot, or the reads after the first one would wait
	monitor.Do("MONITOR")
	got := fmt.Sprint(pipelined(c, "LRANGE k a b", "GET k", "GET k"))
	if got != "[ERR value is not an integer or out of range v v]" {
		t.Fatal(got)
	}
	node.Do(t, "ECHO", "end")
	var reads []string
	for {
		line := fmt.Sprint(monitor.Recv())
		if strings.Contains(line, `"end"`) {
			break
		}
		for _, name := range []string{"LRANGE", "GET"} {
			if strings.Contains(line, `"`+name+`"`) {
				reads = append(reads, name)
			}
		}
	}
	if last := reads[len(reads)-1]; last != "GET" {
		t.Errorf("the node has run %q: GET before LRANGE", reads)
	}
	b.restsWell()
}

// nearWrites change what is read of keys: by all ways that there are.
var nearWrites = [][]string{
	{"SET str x"}, {"APPEND str y"}, {"SETRANGE str 1 z"}, {"GETSET str g"}, {"GETDEL str"}, {"SET str v PX 1000000"}, {"GETEX str PXAT 1"}, {"SET str v"},
	{"EXPIRE str 0"}, {"MSET str m other n"}, {"MSETNX str2 m other2 n"}, {"INCR int"}, {"INCRBYFLOAT int 0.5"}, {"SETBIT str 1 1"}, {"BITFIELD str SET u8 0 65"},
	{"BITOP NOT str2 str"}, {"DEL str other"}, {"UNLINK str2"}, {"PFADD str a"}, {"DEL str"}, {"SETNX str v"}, {"SETEX str 1000 v"}, {"PEXPIREAT str 1"},
	{"RPUSH list x"}, {"LPOP list"}, {"RPOP list 2"}, {"LSET list 0 set"}, {"LREM list 0 b"}, {"LTRIM list 0 1"}, {"LINSERT list BEFORE set in"}, {"RPOPLPUSH list list2"},
	{"LMOVE list2 list LEFT LEFT"}, {"BLPOP list 0"}, {"BLMOVE list list2 LEFT RIGHT 0"}, {"LMPOP 1 list2 LEFT"}, {"RPUSH list q w e"}, {"BLMPOP 0 1 list LEFT"}, {"SORT list ALPHA STORE list2"},
	{"SADD set x y z"}, {"SREM set x"}, {"SPOP set"}, {"SMOVE set set2 y"}, {"SMOVE set set2 z"}, {"SADD set q"}, {"SUNIONSTORE set2 set"}, {"SDIFFSTORE set2 set set"},
	{"ZADD zset 5 a"}, {"ZINCRBY zset 2 b"}, {"ZREM zset c"}, {"ZPOPMIN zset"}, {"ZPOPMAX zset 1"}, {"BZPOPMIN zset 0"}, {"ZREMRANGEBYRANK zset 0 0"}, {"ZRANGESTORE zset2 zset 0 -1"},
	{"ZMPOP 1 zset2 MIN"}, {"BZMPOP 0 1 zset MAX"}, {"ZUNIONSTORE zset 1 zset2"}, {"ZADD zset 1 z"}, {"ZREMRANGEBYSCORE zset -inf +inf"}, {"GEOADD geo 1 2 here"}, {"GEOSEARCHSTORE zset geo FROMLONLAT 1 2 BYRADIUS 1 km"},
	{"GEORADIUS geo 1 2 1 km STORE zset2"},
	{"HSET hash f w"}, {"HDEL hash f"}, {"HINCRBY hash n 2"}, {"HINCRBYFLOAT hash n 0.5"}, {"HSETNX hash new 1"}, {"DEL hash"}, {"HMSET hash f 1 n 2"},
	{"XADD stream 5-0 a b"}, {"XDEL stream 5-0"}, {"XTRIM stream MAXLEN 1"}, {"XADD stream 6-0 a b"}, {"XSETID stream 9-9"},
	{"RENAME list2 list"}, {"RENAMENX list list2"}, {"COPY list2 list"}, {"COPY hash list REPLACE"}, {"MOVE list 1"}, {"PERSIST hash"}, {"TOUCH hash"},
	{"EVAL redis.call('set',KEYS[1],'e') 1 str"}, {"EVAL redis.call('set','str','f') 0"}, {"MULTI", "SET str multi", "DEL hash", "EXEC"},
	{"WATCH str", "GET str", "MULTI", "APPEND str watched", "EXEC"}, {"SELECT 1", "SET str one", "SELECT 0"}, {"SWAPDB 0 1"}, {"MULTI", "SWAPDB 0 1", "EXEC"},
	{"SELECT 1", "FLUSHDB", "SELECT 0"}, {"FLUSHDB ASYNC"}, {"SET str again"}, {"HSET hash f v"}, {"FLUSHALL"}, {"SET str again"}, {"CLIENT REPLY SKIP", "SET str skipped"}, {"CLIENT REPLY OFF", "SET str muted", "CLIENT REPLY ON"},
}

var nearReads = [][]any{
	{"GET", "str"}, {"GET", "str2"}, {"STRLEN", "str"}, {"GET", "other"}, {"GET", "int"}, {"TYPE", "list"}, {"LRANGE", "list", 0, -1}, {"LRANGE", "list2", 0, -1}, {"EXISTS", "list"},
	{"SCARD", "set"}, {"SISMEMBER", "set", "x"}, {"SMEMBERS", "set2"}, {"ZRANGE", "zset", 0, -1, "WITHSCORES"}, {"ZRANGE", "zset2", 0, -1, "WITHSCORES"}, {"ZSCORE", "geo", "here"},
	{"HGETALL", "hash"}, {"HGET", "hash", "n"}, {"XRANGE", "stream", "-", "+"}, {"MGET", "str"},
}

func TestCachedReadsSeeEveryWrite(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	direct := dial(t, node.Addr())
	for _, write := range nearFixtures {
		direct.Do(write...)
	}
	resp2, resp3, other := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	resp3.Do("HELLO", "3")
	for i, write := range nearWrites {
		c := []*redistest.Conn{resp2, resp3}[i%2]
		for range 2 {
			for _, read := range nearReads {
				c.Do(read...)
				other.Do(read...)
			}
		}
		for _, line := range write { // in one go
			c.Send(strings.Fields(line))
		}
		for _, read := range nearReads {
			c.Send(read...)
		}
		for range write {
			if line := fmt.Sprint(write); strings.Contains(line, "REPLY") { // one reply, or none
				if strings.Contains(line, "OFF") {
					c.Recv()
				}
				break
			}
			if reply, isError := c.Recv().(redistest.Error); isError {
				t.Errorf("%q: %v", write, reply)
			}
		}
		for _, read := range nearReads {
			got, want := fmt.Sprint(c.Recv()), direct.Do(read...)
			if c == resp3 {
				continue // the bytes are looked at below
			}
			if got != fmt.Sprint(want) {
				t.Errorf("%q after %q in one go: %s instead of %v", read, write, got, want)
			}
		}
		for _, read := range nearReads {
			want := direct.DoRaw(read...)
			if got := resp2.DoRaw(read...); c == resp2 && got != want {
				t.Errorf("%q after %q: %q instead of %q", read, write, got, want)
			}
			eventually(t, fmt.Sprintf("%q after %q of another client", read, write), func() bool { return other.DoRaw(read...) == want })
		}
	}
	if n := b.near(); n.Hits < 1000 {
		t.Errorf("too little came from the cache: %+v", n)
	}
	b.restsWell()
}

// refused reports whether a node has said that a user may not.
func refused(reply any) bool { return strings.HasPrefix(fmt.Sprint(reply), "NOPERM ") }

// dialAs connects a client who is a user.
func dialAs(t testing.TB, addr, user string) *redistest.Conn {
	t.Helper()
	c := dial(t, addr)
	if got := c.Do("AUTH", user, "pw"); got != "OK" {
		t.Fatalf("AUTH %s: %v", user, got)
	}
	return c
}

func TestCachedRepliesAreTheUsersOwn(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	direct := dial(t, node.Addr())
	direct.Do("ACL", "SETUSER", "may", "on", ">pw", "allkeys", "+@all")
	direct.Do("ACL", "SETUSER", "mayNot", "on", ">pw", "~other*", "+@all")
	direct.Do("SET", "k", "v")
	b := startNear(t, node.Addr())
	may, mayNot := dialAs(t, b.Addr(), "may"), dialAs(t, b.Addr(), "mayNot")
	b.warm(may, "GET", "k")
	for range 3 {
		if got := mayNot.Do("GET", "k"); !refused(got) {
			t.Errorf("a user without the right reads %v", got)
		}
	}
	may.Do("AUTH", "mayNot", "pw")
	if got := may.Do("GET", "k"); !refused(got) {
		t.Errorf("a client that has become a user without the right reads %v", got)
	}
	may.Do("AUTH", "may", "pw")
	may.Do("SELECT", "1")
	if got := b.hit(may, false, "GET", "k"); got != nil {
		t.Errorf("another database has %v", got)
	}
	may.Do("SELECT", "0")
	b.warm(may, "GET", "k")
	t.Run("rights are taken away by berth", func(t *testing.T) {
		admin := dial(t, b.Addr())
		for range 20 {
			if got := admin.Do("ACL", "SETUSER", "may", "resetkeys"); got != "OK" {
				t.Fatal(got)
			}
			if got := may.Do("GET", "k"); !refused(got) {
				t.Fatalf("%v", got)
			}
			admin.Do("ACL", "SETUSER", "may", "allkeys")
			may.Do("GET", "k")
			may.Do("GET", "k")
		}
	})
	t.Run("rights are taken away past berth", func(t *testing.T) {
		b.warm(may, "GET", "k")
		b.warm(may, "STRLEN", "k")
		direct.Do("ACL", "SETUSER", "may", "resetkeys")
		if got := may.Do("GETRANGE", "k", 0, -1); !refused(got) { // which is not cached
			t.Errorf("%v", got)
		}
		for range 3 {
			if got := may.Do("GET", "k"); !refused(got) {
				t.Errorf("%v", got)
			}
		}
	})
	direct.Do("ACL", "SETUSER", "may", "allkeys")
	t.Run("one client of the user is refused", func(t *testing.T) {
		same := dialAs(t, b.Addr(), "may")
		eventually(t, "the read to be fetched", func() bool {
			b.warm(may, "GET", "k")
			b.warm(same, "GET", "k")
			fetches := b.near().Fetches
			direct.Do("ACL", "SETUSER", "may", "resetkeys")
			if got := same.Do("GETRANGE", "k", 0, -1); !refused(got) {
				t.Errorf("%v", got)
			}
			fetched := b.near().Fetches > fetches
			if got := may.Do("GET", "k"); fetched && !refused(got) {
				t.Errorf("after another client of the same user was refused: %v", got)
			}
			direct.Do("ACL", "SETUSER", "may", "allkeys")
			return fetched
		})
	})
	t.Run("the user is deleted", func(t *testing.T) {
		direct.Do("ACL", "DELUSER", "may")
		_, _ = may.TryDo("PING")
		if got, err := may.TryDo("GET", "k"); err == nil && got == "v" {
			t.Errorf("a user that is no more reads %v", got)
		}
	})
	b.restsWell()
}

// The cache needs commands that a user may lack.
func TestUsersWhoMayNotTrackAreServed(t *testing.T) {
	for _, lacks := range []string{"-client|tracking", "-client|caching", "-client", "-pttl", "-ping", "-hello", "-info"} {
		t.Run(lacks, func(t *testing.T) {
			parallel(t)
			node := redistest.Start(t)
			direct := dial(t, node.Addr())
			direct.Do("ACL", "SETUSER", "user", "on", ">pw", "allkeys", "+@all", lacks)
			direct.Do("SET", "k", 0)
			direct.Do("HSET", "h", "f", 0)
			b := startNear(t, node.Addr())
			c := dialAs(t, b.Addr(), "user")
			for i := range 50 {
				if got := fmt.Sprint(c.Do("GET", "k")); got != fmt.Sprint(i) {
					t.Fatalf("read %d: %s", i, got)
				}
				c.Do("GET", "k")
				c.Do("INCR", "k")
				if got := fmt.Sprint(c.Do("HGET", "h", "f")); got != fmt.Sprint(i) {
					t.Fatalf("read %d of a hash: %s", i, got)
				}
				c.Do("HGET", "h", "f")
				c.Do("HINCRBY", "h", "f", 1)
			}
			if lacks != "-info" && lacks != "-ping" && lacks != "-hello" && b.kept().Entries > 0 {
				t.Errorf("%d replies are kept", b.kept().Entries)
			}
			if n := b.near().Fetches; strings.Contains(lacks, "client") && n > 5 {
				t.Errorf("%d reads were fetched, though none is kept", n)
			}
			t.Logf("%+v; ACL LOG has %d", b.near(), len(direct.Do("ACL", "LOG").([]any)))
			b.restsWell()
		})
	}
}

func TestCachedRepliesEndWithTheirKeys(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--hz", "1", "--dynamic-hz", "no") // which deletes hardly anything by itself
	b := startNear(t, node.Addr())
	c, direct := dial(t, b.Addr()), dial(t, node.Addr())
	before := b.near().Hits
	for i := range 30 {
		key := fmt.Sprint("k", i)
		c.Do("SET", key, "v", "PX", 1+i%10)
		for {
			expired := direct.Do("OBJECT", "ENCODING", key) == nil // which looks at it without expiring it
			both, got := fmt.Sprint(c.Do("MGET", key, key)), c.Do("GET", key)
			if expired && both != "[<nil> <nil>]" {
				t.Fatalf("MGET of %s after the node has said that it is no more: %s", key, both)
			}
			if got == nil {
				break
			}
			if expired {
				t.Fatalf("%s is read after the node has said that it is no more", key)
			}
		}
		if got := c.Do("GET", key); got != nil {
			t.Fatalf("%s is there again: %v", key, got)
		}
	}
	if b.near().Hits-before < 30 {
		t.Error("too little came from the cache")
	}
}

func TestNodesSayWhetherFieldsExpire(t *testing.T) {
	for info, want := range map[string]bool{
		"$13\r\n# Keyspace\r\n\r\n": true,
		"$57\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,subexpiry=0\r\n\r\n":                    true,
		"=70\r\ntxt:# Keyspace\r\ndb0:keys=1,expires=9,avg_ttl=9,keys_with_volatile_items=0\r\n\r\n": true,
		"$47\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n\r\n":                                true,
		"$57\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,subexpiry=1\r\n\r\n":                    false,
		"$72\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,keys_with_volatile_items=10\r\n\r\n":    false,
		"$60\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0,another_name\r\n\r\n":                   false,
		"$99\r\n# Keyspace\r\ndb1:keys=1,subexpiry=1\r\ndb10:keys=1,subexpiry=1\r\n\r\n":             true,
		"$99\r\n# Keyspace\r\ndb1:keys=1,subexpiry=0\r\ndb0:keys=1,subexpiry=2\r\n\r\n":              false,
	} {
		if got := onlyKeysExpire([]byte(info), 0); got != want {
			t.Errorf("%q: %v", info, got)
		}
	}
}

func TestFieldsThatExpireAreNotReadAnyMore(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c, direct := dial(t, b.Addr()), dial(t, node.Addr())
	direct.Do("HSET", "other", "f", "v")
	if !b.srv.hasFieldExpiry() {
		b.warm(c, "HGETALL", "other")
		return
	}
	for i := range 10 {
		direct.Do("HSET", "hash", "f", "v", "g", "w")
		c.Do("HGETALL", "hash")
		direct.Do("HPEXPIRE", "hash", 1+i, "FIELDS", 1, "f")
		for strings.Contains(fmt.Sprint(direct.Do("HGETALL", "hash")), "v") {
			c.Do("HGETALL", "hash")
		}
		for _, request := range [][]any{{"HGET", "hash", "f"}, {"HMGET", "hash", "f", "g"}, {"HGETALL", "hash"}} {
			if got := fmt.Sprint(c.Do(request...)); strings.Contains(got, "v") {
				t.Fatalf("%v: %s after the field has expired", request, got)
			}
		}
	}
	eventually(t, "the node to have deleted the last field", func() bool {
		return !strings.Contains(fmt.Sprint(direct.Do("INFO", "keyspace")), "=1\r\n")
	})
	b.warm(c, "HGETALL", "other")
	direct.Do("HPEXPIRE", "hash", 100_000, "FIELDS", 1, "g")
	b.hit(c, true, "HGETALL", "other") // which has none
	b.hit(c, false, "HGETALL", "hash")
	b.hit(c, false, "HGETALL", "hash")
	if b.near().Fields == 0 {
		t.Error("it is not counted that hashes were not kept")
	}
}

func TestLimitsOfTheNearCache(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--cache-max-memory", "64kb", "--cache-max-value", "2kb", "--cache-keys", "in:*", "--cache-not-keys", "in:not:*")
	c, direct := dial(t, b.Addr()), dial(t, node.Addr())
	value := strings.Repeat("x", 1000)
	for i := range 500 {
		key := fmt.Sprint("in:", i)
		direct.Do("SET", key, value)
		for range 2 + 20*(i%2) {
			if got := c.Do("GET", key); got != value {
				t.Fatalf("%s: %v", key, got)
			}
			c.Do("GETRANGE", key, 0, i)
			c.Do("MGET", key)
		}
		if kept := b.kept(); kept.Bytes > 64<<10+4<<10 || kept.Bytes < 0 {
			t.Fatalf("%+v is kept", kept)
		}
	}
	for _, sp := range onLoops(b, func(l *loop) int {
		sum := 0
		for _, sp := range l.near.spaces {
			sp.table.Keys(func(_ *near.Key[nearPending], _, bytes int) { sum += bytes })
		}
		return sum - l.near.bytes
	}) {
		if sp != 0 {
			t.Errorf("the count of bytes is off by %d", sp)
		}
	}
	if b.near().Evicted == 0 {
		t.Error("nothing was evicted")
	}
	t.Run("many forms", func(t *testing.T) {
		for i := range 200 {
			c.Do("GETRANGE", fmt.Sprint("in:", i%4), i/4, -1)
			if kept := b.kept(); kept.Bytes > 64<<10+4<<10 {
				t.Fatalf("%+v is kept", kept)
			}
		}
	})
	t.Run("long names", func(t *testing.T) {
		for i := range 100 {
			c.Do("LRANGE", fmt.Sprint("in:", strings.Repeat(value, 3), i), "a", "b") // an error, which is not kept
			if kept := b.kept(); kept.Bytes > 64<<10+4<<10 {
				t.Fatalf("%+v is kept", kept)
			}
		}
		for range 3 {
			b.hit(c, false, "GET", "in:"+strings.Repeat(value, 5))
		}
	})
	t.Run("long value", func(t *testing.T) {
		direct.Do("SET", "in:long", strings.Repeat(value, 3))
		eventually(t, "a value to be too long", func() bool {
			b.hit(c, false, "GET", "in:long")
			return b.near().TooLong > 0
		})
	})
	t.Run("unwanted keys", func(t *testing.T) {
		for _, key := range []string{"out", "in:not:k"} {
			for range 3 {
				b.hit(c, false, "GET", key)
			}
		}
	})
	t.Run("patterns change", func(t *testing.T) {
		b.warm(c, "GET", "in:1")
		b.set("cache-not-keys", "in:*")
		eventually(t, "the cache to let go of a key", func() bool {
			c.Do("GET", "in:1") // which would keep it hot
			return b.kept().Entries == 0
		})
		for range 3 {
			b.hit(c, false, "GET", "in:1")
		}
		b.set("cache-not-keys", "", "cache-keys", "")
		eventually(t, "the cache to take up any key", func() bool {
			c.Do("GET", "out")
			return b.kept().Entries > 0
		})
		b.set("cache-max-memory", "0")
		eventually(t, "the cache to be empty", func() bool { return b.kept() == telemetry.Near{} })
		b.hit(c, false, "GET", "out")
		b.hit(c, false, "GET", "out")
	})
	b.restsWell()
}

func TestClientsChooseToReadTheNode(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("MSET", "k", "v", "k2", "v2")
	b.warm(c, "GET", "k")
	b.hit(c, true, "GET", "k")
	for _, line := range []string{"CLIENT CACHING NO", "CLIENT CACHING YES", "CLIENT caching no", "RESET"} {
		if got := pipelined(c, line)[0]; got != "OK" && got != "RESET" {
			t.Errorf("%s: %v", line, got)
		}
		far := strings.HasSuffix(strings.ToLower(line), "no")
		if !far {
			b.warm(c, "GET", "k")
		}
		b.hit(c, !far, "GET", "k")
		b.warm(other, "MGET", "k", "k2")
		b.hit(c, !far, "MGET", "k", "k2")
	}
	c.Do("HELLO", 3)
	c.Do("CLIENT", "TRACKING", "ON", "BCAST") // whoever is told that a key has changed must not read what it was
	for range 3 {
		b.hit(c, false, "GET", "k")
	}
	c.Do("RESET")
	b.warm(c, "GET", "k")
	door := "127.0.0.1:" + freePort(t)
	for _, terms := range []string{" cache=no", " read-from=prefer-replica"} {
		setListen(t, c, door+terms, "OK")
		at := dial(t, door)
		for range 3 {
			b.hit(at, false, "GET", "k")
		}
	}
	setListen(t, c, door+" cache=no", "OK")
	if got := fmt.Sprint(c.Do("CONFIG", "GET", "listen")); !strings.Contains(got, "cache=no") {
		t.Errorf("CONFIG GET listen: %s", got)
	}
	b.set("cache", "no")
	b.awaitNear(false)
	if got := fmt.Sprint(c.Do("CLIENT", "CACHING", "NO")); !strings.HasPrefix(got, "ERR ") {
		t.Errorf("CLIENT CACHING NO without a cache: %s", got)
	}
	if got := c.Do("GET", "k"); got != "v" {
		t.Error(got)
	}
	b.restsWell()
}

// Whose words are long enough to be taken apart travels in parts.
func TestLongReadsOfHotKeys(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c := dial(t, b.Addr())
	b.warm(c, "SCARD", "set")
	for _, n := range []int{maxOnPipe - 100, maxOnPipe + 1, 3 << 20} {
		member := strings.Repeat("m", n)
		node.Do(t, "SADD", "set", member)
		for range 2 {
			if got := c.Do("SISMEMBER", "set", member); got != int64(1) {
				t.Errorf("a member of %d bytes: %v", n, got)
			}
		}
	}
	b.restsWell()
}

// What is too long to be kept is not held as a whole by berth, and holds up no other hot read for long.
func TestLongRepliesOfHotKeysComeByThePipe(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	node.Do(t, "SET", "k", "short")
	b.warm(c, "GET", "k")
	long := strings.Repeat("long", 1<<20)
	node.Do(t, "SET", "k", long)
	eventually(t, "the long value", func() bool { return c.Do("GET", "k") == long })
	fetches := b.near().Fetches
	for _, c := range []*redistest.Conn{c, other, c, other} {
		for _, reply := range pipelined(c, "GET k", "STRLEN k", "GET k") {
			if reply != long && reply != int64(len(long)) {
				t.Fatalf("%.20v", reply)
			}
		}
	}
	if n := b.near(); n.TooLong == 0 || n.Fetches > fetches+4 { // of STRLEN
		t.Errorf("%+v, %d fetches before", n, fetches)
	}
	node.Do(t, "SET", "k", "short")
	b.warm(c, "GET", "k")
	b.restsWell()
}

// A node says nothing of keys that come to be at the node to which their slot moves.
func TestWhatIsAbsentIsNotKeptForLongOverACluster(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0)
	b := startNear(t, clusterURL(cluster))
	c := dial(t, b.Addr())
	slot := int(router.Slot([]byte("k")))
	from := cluster.Owner(slot)
	to := dial(t, cluster.Node(1-from).Addr())
	b.warm(c, "GET", "{k}here")
	reads := [][]any{{"GET", "{k}1"}, {"EXISTS", "{k}2"}, {"HMGET", "{k}3", "f", "g"}, {"TYPE", "{k}4"}}
	var before []string
	for _, read := range reads {
		b.warm(c, read...)
		before = append(before, fmt.Sprint(c.Do(read...)))
	}
	cluster.StartMove(t, slot, from, 1-from)
	for i, read := range reads {
		write := []any{"SET", read[1], "v"}
		if read[0] == "HMGET" {
			write = []any{"HSET", read[1], "f", "v"}
		}
		to.Do("ASKING")
		to.Do(write...)
		eventually(t, fmt.Sprint(read, " to see the key"), func() bool { return fmt.Sprint(c.Do(read...)) != before[i] })
	}
	b.restsWell()
}

func TestMGETOfHotKeysAtSeveralNodes(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 2, 0)
	b := startNear(t, clusterURL(cluster))
	c := dial(t, b.Addr())
	mget, want := []any{"MGET"}, []any{}
	for i := range 10 {
		key := fmt.Sprint("k", i)
		c.Do("SET", key, i)
		mget, want = append(mget, key), append(want, fmt.Sprint(i))
		b.warm(c, "GET", "k0") // some of them are kept, or all
		if got := fmt.Sprint(c.Do(mget...)); got != fmt.Sprint(want) {
			t.Errorf("%v: %s", mget, got)
		}
	}
	for _, key := range mget[1:] {
		b.warm(c, "GET", key)
	}
	b.hit(c, true, mget...)
	for i := range 10 {
		c.Do("SET", fmt.Sprint("k", i), "new")
		want[i] = "new"
		if got := fmt.Sprint(c.Do(mget...)); got != fmt.Sprint(want) {
			t.Errorf("%v: %s", mget, got)
		}
	}
	b.restsWell()
}

// Requests may be under way when the cache is given up, and when there is one again.
func TestCacheIsGivenUpWhileRequestsAreUnderWay(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	b.warm(other, "GET", "k")
	node.Pause()
	defer node.Resume()
	b.feed(c, "SET cold v\r\nAPPEND cold w\r\n")
	b.feed(other, "STRLEN cold\r\n")
	b.set("cache", "no")
	b.awaitNear(false)
	node.Resume()
	if got := fmt.Sprint([]any{c.Recv(), c.Recv()}); got != "[OK 2]" {
		t.Error(got)
	}
	other.Recv()
	b.set("cache", "yes")
	b.awaitNear(true)
	b.warm(other, "GET", "k")
	b.warm(c, "GET", "cold")
	c.Do("SET", "of no interest", "v")
	b.hit(c, true, "GET", "cold")
	b.restsWell()
}

func TestProxyCache(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startLoaded(t, node.Addr(), "--cache", "yes", "--cache-hot-rate", "0", "--loops", "1")
	c := dial(t, b.Addr())
	eventually(t, "a reply from the cache", func() bool {
		c.Do("GET", "k")
		return sum(b.metrics(), "berth_cache_reads_total", `outcome="hit"`) > 0
	})
	row := map[string]any{}
	said := c.Do("PROXY", "CACHE").([]any)
	for i := 0; i < len(said); i += 2 {
		row[said[i].(string)] = said[i+1]
	}
	if row["state"] != "yes" || row["keys"] != int64(1) || row["replies"] != int64(1) || row["hits"] == int64(0) || row["bytes_limit"] != int64(64<<20) {
		t.Errorf("PROXY CACHE: %v", row)
	}
	if n := sum(b.metrics(), "berth_cache_bytes"); n != float64(row["bytes"].(int64)) || n == 0 {
		t.Errorf("berth_cache_bytes: %v, PROXY CACHE: %v", n, row["bytes"])
	}
	c.Do("CONFIG", "SET", "cache", "no")
	eventually(t, "the cache to be given up", func() bool { return sum(b.metrics(), "berth_cache_bytes") == 0 })
	if got := fmt.Sprint(c.Do("PROXY", "CACHE")); !strings.Contains(got, "state no") {
		t.Errorf("PROXY CACHE: %v", got)
	}
}

// What a client does in between leaves nothing behind that keeps it from the cache, or has it wait for ever.
func TestClientsComeBackToTheCache(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c, direct := dial(t, b.Addr()), dial(t, node.Addr())
	c.Do("SET", "k", "v")
	for _, line := range []string{
		"PING", "WAIT 0 1", "BLPOP none 0.001", "WATCH k", "UNWATCH", "MULTI", "DISCARD", "MULTI", "GET k", "EXEC", "EVAL return 1 0", "EVALSHA ffff 0", "NOSUCH", "LRANGE k 0 -1",
		"KEYS k*", "SCAN 0", "DBSIZE", "CONFIG GET port", "INFO", "CLIENT LIST", "PROXY STATS", "ACL WHOAMI", "OBJECT ENCODING k", "SELECT 1", "SELECT 0", "HELLO 3", "HELLO 2",
		"CLIENT TRACKING ON", "GET k", "CLIENT TRACKING OFF", "CLIENT PAUSE 1", "DEBUG OBJECT k", "MEMORY USAGE k", "XREAD BLOCK 1 STREAMS none 0", "FCALL f 0", "PUBLISH ch m", "MSET k v other w",
		"SINTERCARD 1 none", "LLEN k", "SORT none BY x", "COMMAND COUNT", "RANDOMKEY", "TOUCH k", "READONLY", "READWRITE", "ASKING", "SCRIPT EXISTS ffff",
	} {
		_ = c.Do(strings.Fields(line))
		if line != "READONLY" && !strings.HasPrefix(line, "WATCH") && line != "MULTI" && !strings.HasSuffix(line, "TRACKING ON") && (line != "GET k") {
			b.warm(c, "GET", "k")
		}
	}
	for _, line := range []string{"SUBSCRIBE ch", "PSUBSCRIBE ch*", "SSUBSCRIBE ch"} {
		c.Do(strings.Fields(line))
		c.Do(strings.Fields(strings.Replace(line, "SUBSCRIBE", "UNSUBSCRIBE", 1)))
		b.warm(c, "GET", "k")
	}
	c.Do("MONITOR")
	c.Do("RESET")
	b.warm(c, "GET", "k")
	c.Send("BLPOP", "list", 0)
	eventually(t, "a client to block", func() bool { return strings.Contains(fmt.Sprint(direct.Do("INFO", "clients")), "blocked_clients:1") })
	direct.Do("RPUSH", "list", "x")
	c.Recv()
	b.warm(c, "GET", "k")
	c.Send("CLIENT", "REPLY", "OFF")
	c.Send("GET", "k")
	c.Send("CLIENT", "REPLY", "ON")
	if got := c.Recv(); got != "OK" {
		t.Error(got)
	}
	c.Send("CLIENT", "REPLY", "SKIP")
	c.Send("GET", "k")
	if got := b.hit(c, true, "GET", "k"); got != "v" {
		t.Error(got)
	}
	b.restsWell()
}

func TestWatchedKeysAreReadFromTheNode(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c, direct := dial(t, b.Addr()), dial(t, node.Addr())
	c.Do("SET", "k", 0)
	for i := range 20 {
		b.warm(c, "GET", "k")
		direct.Do("SET", "k", i)
		if got := pipelined(c, "WATCH k", "GET k", "MULTI", "INCR k", "EXEC"); fmt.Sprint(got) != fmt.Sprintf("[OK %d OK QUEUED [%d]]", i, i+1) {
			t.Fatal(got)
		}
		pipelined(c, "GET k", "WATCH k", "GET k")
		direct.Do("SET", "k", "x")
		if got := pipelined(c, "MULTI", "SET k y", "EXEC"); got[2] != nil {
			t.Fatalf("EXEC after another's write: %v", got)
		}
	}
	b.restsWell()
}

func TestTrackingClientsAreToldOfWhatTheyRead(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c, other := dial(t, b.Addr()), dial(t, b.Addr())
	other.Do("SET", "k", "v")
	b.warm(other, "GET", "k")
	c.Do("HELLO", "3")
	b.warm(c, "GET", "k")
	pipelined(c, "GET k", "CLIENT TRACKING ON", "GET k")
	other.Do("SET", "k", "w")
	if got := fmt.Sprint(c.Recv()); !strings.Contains(got, "invalidate") {
		t.Errorf("told %s", got)
	}
}

// A node that says nothing may be cut off, and its keys may change elsewhere.
func TestCachedRepliesOfASilentNodeAreDropped(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c := dial(t, b.Addr())
	b.warm(c, "GET", "k")
	node.Pause()
	defer node.Resume()
	b.awaitDropped()
	c.Send("GET", "k")
	node.Resume()
	if got := c.Recv(); got != nil {
		t.Error(got)
	}
	b.restsWell()
}

func TestNearCacheOutlivesItsConnections(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--backend-timeout-ms", "60000")
	c, direct := dial(t, b.Addr()), dial(t, node.Addr())
	for i := range 20 {
		b.warm(c, "GET", "k")
		direct.Do("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		b.awaitDropped()
		direct.Do("SET", "k", i)
		if got := fmt.Sprint(c.Do("GET", "k")); got != fmt.Sprint(i) {
			t.Fatalf("%s instead of %d", got, i)
		}
	}
	for _, n := range onLoops(b, func(l *loop) (n int) {
		for _, sp := range l.near.spaces {
			n += len(sp.links)
		}
		return n
	}) {
		if n > 1 {
			t.Errorf("%d links to one node", n)
		}
	}
	b.restsWell()
}

func TestNearCacheOverTheEmbeddedBackend(t *testing.T) {
	parallel(t)
	b := startNear(t, "")
	c := dial(t, b.Addr())
	c.Do("HELLO", "3")
	for i := range 50 {
		c.Do("SET", "k", i)
		for range 2 {
			if got := fmt.Sprint(c.Do("GET", "k")); got != fmt.Sprint(i) {
				t.Fatalf("%s instead of %d", got, i)
			}
		}
	}
	t.Logf("%+v", b.near())
	b.restsWell()
}

// Clients leave, or say that they say no more, while a fetch is under way for them.
func TestClientsLeaveWhileTheirReplyIsFetched(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c := dial(t, b.Addr())
	c.Do("SET", "k", "v")
	for i := range 10 {
		b.warm(c, "GET", "k")
		node.Do(t, "SET", "k", i)
		b.awaitDropped()
		node.Pause()
		gone, half, muted := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
		fetches := b.near().Fetches
		b.feed(gone, "GET k\r\nGET k\r\nSET k x\r\n")
		b.feed(half, "GET k\r\nSTRLEN k\r\n")
		b.feed(muted, "CLIENT REPLY SKIP\r\nGET k\r\nGET k\r\n")
		if b.near().Fetches == fetches {
			t.Error("nothing is fetched")
		}
		if i%2 == 0 {
			gone.Close()
		} else {
			gone.Reset()
		}
		half.CloseWrite()
		node.Resume()
		if got, want := half.ReadAll(), fmt.Sprintf("$1\r\n%d\r\n:1\r\n", i); got != want {
			t.Errorf("a client that says no more gets %q instead of %q", got, want)
		}
		if got := fmt.Sprint(muted.Recv()); got != fmt.Sprint(i) {
			t.Errorf("a client that skips a reply gets %s", got)
		}
	}
	b.restsWell()
}

// What a node answers too late, clients ask for again, and are told like others if that is too late as well.
func TestFetchesThatTakeTooLong(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--backend-timeout-ms", "300")
	c := dial(t, b.Addr())
	c.Do("SET", "k", "v")
	b.warm(c, "GET", "k")
	node.Do(t, "SET", "k", "w")
	b.awaitDropped()
	node.Pause()
	got := pipelined(c, "GET k", "STRLEN k", "SET k x", "GET k")
	node.Resume()
	for _, reply := range got {
		if !strings.HasPrefix(fmt.Sprint(reply), "ERR berth: connection to ") && reply != "w" && reply != "x" && reply != "OK" && reply != int64(1) {
			t.Errorf("%v", got)
		}
	}
	eventually(t, "reads to be answered", func() bool { return c.Do("GET", "k") == "x" || c.Do("GET", "k") == "w" })
	b.warm(c, "GET", "k")
	b.restsWell()
}

// A read that was under way when databases changed places is of the database that was.
func TestNothingIsKeptFromBeforeDatabasesChangedPlaces(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--loops", "2")
	direct := dial(t, node.Addr())
	clients := []*redistest.Conn{dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())}
	for i := range 40 {
		direct.Do("SET", "k", i) // which drops what is kept
		for _, c := range clients {
			eventually(t, "the value", func() bool { return fmt.Sprint(c.Do("GET", "k")) == fmt.Sprint(i) })
		}
		direct.Do("SET", "k", fmt.Sprint(i))
		node.Pause()
		for n, c := range clients {
			switch {
			case n != i%4:
				b.feed(c, "GET k\r\nGET k\r\n")
			case i%8 < 4:
				b.feed(c, "SWAPDB 0 1\r\n")
			default:
				b.feed(c, "MULTI\r\nSWAPDB 0 1\r\nEXEC\r\n")
			}
		}
		node.Resume()
		for n, c := range clients {
			replies := 2
			if n == i%4 {
				replies = 1 + 2*(i%8/4)
			}
			for range replies {
				c.Recv()
			}
		}
		want := direct.DoRaw("GET", "k")
		for _, c := range clients {
			eventually(t, "the other database's value", func() bool { return c.DoRaw("GET", "k") == want })
			if got := c.DoRaw("GET", "k"); got != want {
				t.Fatalf("round %d: %q instead of %q", i, got, want)
			}
		}
		if got := clients[i%4].DoRaw("GET", "k"); got != want {
			t.Fatalf("round %d: whoever swapped reads %q instead of %q", i, got, want)
		}
	}
}

// An MGET of several keys is answered by what GET has brought of each.
func TestMGETOfHotKeys(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	direct := dial(t, node.Addr())
	direct.Do("ACL", "SETUSER", "u", "on", ">pw", "allkeys", "+@all")
	direct.Do("MSET", "a", "1", "b", "2")
	direct.Do("RPUSH", "list", "x")
	b := startNear(t, node.Addr(), "--cache-ttl-max", "1")
	for _, version := range []string{"2", "3"} {
		c := dialAs(t, b.Addr(), "u")
		c.Do("HELLO", version)
		mget := func(want string, keys ...any) {
			t.Helper()
			if got := fmt.Sprint(c.Do(append([]any{"MGET"}, keys...)...)); got != want {
				t.Errorf("RESP%s: MGET %v: %s, want %s", version, keys, got, want)
			}
		}
		before := b.near().Hits
		eventually(t, "an MGET to be answered by berth", func() bool {
			mget("[1 2 <nil>]", "a", "b", "none")
			return b.near().Hits > before
		})
		mget("[1 <nil> 1]", "a", "list", "a") // GET of a list is an error, MGET's answer is nil
		mget("[1 <nil> 1]", "a", "list", "a")
		hello := dial(t, node.Addr())
		hello.Do("HELLO", version)
		if got, want := c.DoRaw("MGET", "a", "list", "none"), hello.DoRaw("MGET", "a", "list", "none"); got != want {
			t.Errorf("RESP%s: %q, not %q", version, got, want)
		}
		if got := c.Do("SET", "b", "3"); got != "OK" {
			t.Fatal(got)
		}
		mget("[1 3]", "a", "b")
		direct.Do("DEL", "a")
		eventually(t, "the deletion to be seen", func() bool { return fmt.Sprint(c.Do("MGET", "a", "b")) == "[<nil> 3]" })
		direct.Do("MSET", "a", "1", "b", "2")
		eventually(t, "the writes to be seen", func() bool { return fmt.Sprint(c.Do("MGET", "a", "b")) == "[1 2]" })
		direct.Do("ACL", "SETUSER", "u", "resetkeys")
		if got := c.Do("MGET", "a", "new"); !refused(got) { // not all of it is kept
			t.Errorf("%v", got)
		}
		eventually(t, "what is kept to have been kept for the longest time", func() bool { return refused(c.Do("MGET", "a", "b")) })
		for range 3 {
			if got := c.Do("MGET", "a", "b"); !refused(got) {
				t.Errorf("%v", got)
			}
		}
		direct.Do("ACL", "SETUSER", "u", "allkeys")
	}
	b.restsWell()
}

func TestMGETIsAnsweredAgainAfterItsKeysWereKeptForTheLongestTime(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--cache-ttl-max", "1")
	c := dial(t, b.Addr())
	b.warm(c, "MGET", "a", "b")
	passed, fetched := b.near().PassedUnkept, b.near().Fetches
	eventually(t, "both keys to be fetched twice more", func() bool {
		c.Do("MGET", "a", "b")
		return b.near().Fetches >= fetched+4
	})
	if n := b.near().PassedUnkept; n > passed {
		t.Errorf("%d went to the node", n-passed)
	}
}

// An MGET that the node has to answer anyhow does not wait for the proof of what is kept.
func TestMGETOfAKeyThatCannotBeKeptGoesToTheNodeAtOnce(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--cache-max-value", "10")
	c := dial(t, b.Addr())
	c.Do("MSET", "a", "1", "long", strings.Repeat("x", 100))
	b.warm(c, "GET", "a")
	get := b.srv.table().Find("get")
	for range 20 {
		c.Do("MGET", "a", "long") // the first ones find out, and have the client know more than what is kept
	}
	for _, kept := range onLoops(b, func(l *loop) (kept bool) {
		for _, sp := range l.near.spaces {
			sp.table.Keys(func(k *near.Key[nearPending], _, _ int) {
				if string(k.Name()) == "long" {
					k.Shun(get.ID, nil, l.clock+int64(time.Hour))
				}
				kept = kept || string(k.Name()) == "a" && k.Find(get.ID, nil) != nil
			})
		}
		return kept
	}) {
		if !kept {
			t.Fatal("a is not kept")
		}
	}
	numbers := func() (n uint64) {
		for _, moment := range onLoops(b, func(l *loop) uint64 { return l.moment }) {
			n += moment
		}
		return n
	}
	before := numbers()
	for range 100 {
		c.Do("MGET", "a", "long")
	}
	if n := numbers() - before; n > 10 { // there may be some beats
		t.Errorf("links were sent %d requests for what they cannot bring", n)
	}
	b.restsWell()
}

// An MGET over several nodes that berth cannot answer has the client know more than what is kept, of all nodes.
// That must not go on with the next one.
func TestMGETOverSeveralNodesComesBackToTheCache(t *testing.T) {
	parallel(t)
	cluster := redistest.StartCluster(t, 3, 0)
	b := startNear(t, clusterURL(cluster))
	clients := []*redistest.Conn{dial(t, b.Addr()), dial(t, b.Addr())}
	clients[0].Do("MSET", "a", "0", "b", "1", "c", "2")
	b.warm(clients[0], "MGET", "a", "b", "c")
	for n := range 20 {
		clients[0].Do("SET", "a", n)
		want := fmt.Sprint("[", n, " 1 2]")
		for _, c := range clients {
			hits := b.near().Hits
			for range 50 { // one has a be brought, the next one has all be proved
				if got := fmt.Sprint(c.Do("MGET", "a", "b", "c")); got != want && c == clients[0] {
					t.Fatalf("%v instead of %v", got, want)
				}
			}
			if b.near().Hits == hits {
				t.Fatalf("after write %d no MGET is answered by berth: %+v", n, b.near())
			}
		}
	}
	c := clients[0]
	c.Do("SET", "a", "last")
	for i := range cluster.Addrs() {
		cluster.Node(i).Pause()
	}
	c.Send("MGET", "a", "b", "c")
	c.Close()
	for i := range cluster.Addrs() {
		cluster.Node(i).Resume()
	}
	b.restsWell()
}

func TestPipelineOfOneNewKeyFetchesItOnce(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c := dial(t, b.Addr())
	c.Do("SET", "k", "v")
	requests := slices.Repeat([]string{"GET k"}, 1000)
	requests[0] = "EVAL return 1 0"
	for _, reply := range pipelined(c, requests...)[1:] {
		if reply != "v" {
			t.Fatal(reply)
		}
	}
	if n := b.near(); n.Fetches > 10 || n.Shared+n.Hits < 100 {
		t.Errorf("%+v", n)
	}
}

// What one client reads says nothing of the keys that the next one's request is about.
func TestOwnWritesOfSeveralShardsAreRead(t *testing.T) {
	parallel(t)
	b := startNear(t, clusterURL(redistest.StartCluster(t, 3, 0)))
	c, tracks := dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("MSET", "a", "0", "b", "0")
	b.warm(c, "GET", "a")
	b.warm(c, "GET", "b")
	tracks.Do("HELLO", "3")
	tracks.Do("CLIENT", "TRACKING", "ON")
	for i := 1; i < 10; i++ {
		tracks.Do("GET", "cold") // on a connection of its own
		if got, want := fmt.Sprint(pipelined(c, fmt.Sprintf("MSET a %d b %d", i, i), "GET a", "GET b")), fmt.Sprintf("[OK %d %d]", i, i); got != want {
			t.Fatalf("%s instead of %s", got, want)
		}
		b.warm(c, "GET", "a")
		b.warm(c, "GET", "b")
	}
	b.restsWell()
}

// An MGET with a hot key goes by another connection than what the client says of its cold ones before and after.
func TestMGETOfColdKeysKeepsItsPlace(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--cache-keys", "hot*")
	c := dial(t, b.Addr())
	for i := range 100 {
		c.Do("MSET", "hot", "h", "a", "1", "b", "2")
		b.warm(c, "GET", "hot")
		// What berth writes to which connection first is that of their first requests.
		if got := fmt.Sprint(pipelined(c, "GET x", "MGET hot a b", "DEL a b")); got != "[<nil> [h 1 2] 2]" {
			t.Fatalf("before DEL: %s", got)
		}
		if got := fmt.Sprint(pipelined(c, "GET x", "MGET hot a", "GET a", "EXISTS a", "SET a 3")); got != "[<nil> [h <nil>] <nil> 0 OK]" {
			t.Fatalf("before SET: %s", got)
		}
		if got, want := fmt.Sprint(pipelined(c, fmt.Sprint("STRLEN hot", i), fmt.Sprint("SET a ", i), "MGET hot a")), fmt.Sprintf("[0 OK [h %d]]", i); got != want {
			t.Fatalf("after SET: %s instead of %s", got, want)
		}
	}
	b.restsWell()
}

// Reads that wait for a link are held in memory, and a client may have no more of them than on a pipe.
func TestReadsThatWaitForTheCacheAreLimited(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c := dial(t, b.Addr())
	b.warm(c, "SCARD", "k")
	node.Pause()
	defer node.Resume()
	const reads = 300
	var line []byte
	for i := range reads {
		line = append(line, redistest.Command([]string{"SISMEMBER", "k", fmt.Sprint(i, strings.Repeat("x", maxNearRead-100))})...)
	}
	sent := make(chan error, 1)
	go func() { sent <- c.TryWrite(line) }()
	eventually(t, "the client to wait until it is owed less", func() bool {
		return slices.Contains(onLoops(b, func(l *loop) bool { return l.first != nil && l.first.pause == pauseFull }), true)
	})
	for _, held := range onLoops(b, func(l *loop) (n int) {
		for _, sp := range l.near.spaces {
			sp.table.Keys(func(k *near.Key[nearPending], _, _ int) {
				for _, f := range k.Pending {
					n += len(f.(*nearFetch).raw)
				}
			})
		}
		return n
	}) {
		if held > clientWindow {
			t.Errorf("%d bytes of reads wait", held)
		}
	}
	node.Resume()
	for range reads {
		c.Recv()
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	b.restsWell()
}

// Without PTTL's word berth would answer with a key that has expired.
func TestNothingIsKeptWithoutATimeToLive(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "user", "on", ">pw", "allkeys", "+@all", "-pttl")
	b := startNear(t, node.Addr())
	c := dialAs(t, b.Addr(), "user")
	for range 5 {
		b.hit(c, false, "GET", "k")
	}
	if kept := b.kept(); kept.Entries != 0 {
		t.Errorf("%+v is kept", kept)
	}
}

// A node that runs a script answers everything with an error, for as long as that takes.
func TestBusyNodesAreTrackedAgain(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--busy-reply-threshold", "1")
	b := startNear(t, node.Addr())
	c, runs := dial(t, b.Addr()), dial(t, node.Addr())
	for _, key := range []string{"first", "second"} { // CLIENT TRACKING is refused, and CLIENT CACHING
		runs.Send("EVAL", "while true do end", 0)
		eventually(t, "the node to be busy", func() bool { return strings.HasPrefix(fmt.Sprint(node.Do(t, "GET", "k")), "BUSY ") })
		if got := fmt.Sprint(c.Do("GET", key)); !strings.HasPrefix(got, "BUSY ") {
			t.Errorf("a busy node says %s", got)
		}
		node.Do(t, "SCRIPT", "KILL")
		runs.Recv()
		b.warm(c, "GET", key)
	}
}

// A user who reads many keys once leaves those that others read often where they are.
func TestEvictionKeepsWhatOthersReadOften(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	for _, user := range []string{"few", "many"} {
		node.Do(t, "ACL", "SETUSER", user, "on", ">pw", "allkeys", "+@all")
	}
	node.Do(t, "SET", "k", strings.Repeat("x", 1000))
	b := startNear(t, node.Addr(), "--cache-max-memory", "64kb")
	few, many := dialAs(t, b.Addr(), "few"), dialAs(t, b.Addr(), "many")
	b.warm(few, "GET", "k")
	for i := range 2000 {
		for range 5 {
			few.Do("GET", "k")
		}
		many.Do("GETRANGE", fmt.Sprint("none", i), 0, 1)
	}
	n := b.near()
	if n.Evicted == 0 && n.NoRoom == 0 {
		t.Error("all keys had room")
	}
	if n.Fetches > 2000+100 {
		t.Errorf("the key was fetched %d times", n.Fetches-2000)
	}
}

// An inline request lies where replies are made.
func TestInlineMGETOfHotKeys(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr(), "--cache-keys", "k")
	c := dial(t, b.Addr())
	c.Do("SET", "k", "v")
	b.warm(c, "GET", "k")
	for range 3 {
		b.feed(c, "MGET k none\r\n")
		if got := c.RecvRaw(); got != "*2\r\n$1\r\nv\r\n$-1\r\n" {
			t.Errorf("%q", got)
		}
	}
	b.restsWell()
}

func TestKeysThatAreReadSeldomAreNotKept(t *testing.T) {
	parallel(t)
	b := startNear(t, redistest.Start(t).Addr(), "--cache-hot-rate", "1000000")
	c := dial(t, b.Addr())
	for range 200 {
		c.Do("GET", "k")
		c.Do("MGET", "k", "k2")
	}
	if kept := b.kept(); kept.Keys != 0 {
		t.Errorf("%+v is kept", kept)
	}
}

// A space that nobody uses is given up, and made again for whoever comes back.
func TestSpacesThatNobodyUsesAreGivenUp(t *testing.T) {
	parallel(t)
	b := startNear(t, redistest.Start(t).Addr())
	c := dial(t, b.Addr())
	b.warm(c, "GET", "k")
	spaces := func(idle int64) int {
		return onLoops(b, func(l *loop) int {
			for _, sp := range l.near.spaces {
				sp.table.Cool(1<<30, 1<<62)
				sp.used = l.clock - idle
			}
			l.near.tick(l.near.settings)
			return len(l.near.spaces)
		})[0]
	}
	if n := spaces(nearIdleFor / 2); n != 1 {
		t.Errorf("%d spaces, one of which was used", n)
	}
	if n := spaces(nearIdleFor + 1); n != 0 {
		t.Errorf("%d spaces, none of which is used", n)
	}
	b.warm(c, "GET", "k")
	b.restsWell()
}

func TestRepliesThatMayBeOfNoKey(t *testing.T) {
	for reply, want := range map[string]bool{
		"_\r\n": true, "$0\r\n\r\n": true, ":0\r\n": true, ":-1\r\n": true, "+none\r\n": true, "*0\r\n": true, "%0\r\n": true, "~0\r\n": true,
		"*2\r\n_\r\n_\r\n": true, "*2\r\n:0\r\n:0\r\n": true,
		":1\r\n": false, "$1\r\nv\r\n": false, "+string\r\n": false, ",1.5\r\n": false, "*2\r\n_\r\n$1\r\nv\r\n": false, "*1\r\n*1\r\n$1\r\nv\r\n": false,
		"*2\r\n_\r\n*2\r\n,1\r\n,2\r\n": false, "%1\r\n$1\r\nf\r\n$0\r\n\r\n": false,
	} {
		if got := mayBeAbsent([]byte(reply)); got != want {
			t.Errorf("%q: %v", reply, got)
		}
	}
}

// What is known of the keys of a request is all of them, or nothing.
func TestKeysOfARequest(t *testing.T) {
	parallel(t)
	b := startNear(t, redistest.Start(t).Addr())
	for line, want := range map[string]string{
		"GET a": "a", "SET a v": "a", "APPEND a v": "a", "DEL a b c": "a b c", "MGET a b": "a b", "TOUCH a b": "a b", "EXPIRE a 1": "a", "OBJECT ENCODING a": "a",
		"PING": "", "EVAL x 0": "", "EVAL x 1 a": "", "EVALSHA x 1 a": "", "FCALL f 1 a": "", "SORT a BY b*": "", "SORT a STORE b": "", "COPY a b": "", "RENAME a b": "", "SMOVE a b m": "", "BITOP NOT a b": "",
		"GEORADIUS a 1 2 1 km STORE b": "", "ZUNIONSTORE a 1 b": "", "SINTERCARD 1 a": "", "XREAD STREAMS a 0": "", "MIGRATE h 1 a 0 1": "", "SPUBLISH a m": "", "FLUSHALL": "", "LMPOP 1 a LEFT": "",
		"DEL" + strings.Repeat(" a", maxKeysBeside) + " b": "",
	} {
		args := make([][]byte, 0, 8)
		for _, word := range strings.Fields(line) {
			args = append(args, []byte(word))
		}
		cmd := b.srv.table().Find(strings.ToLower(string(args[0])))
		if cmd.Name == "object" {
			cmd = b.srv.table().Find("object|encoding")
		}
		if got := strings.Trim(fmt.Sprintf("%s", keysBeside(cmd, args)), "[]"); got != want {
			t.Errorf("%.40s: %q", line, got)
		}
	}
}

// What MGET says is made of what GET has brought. Not everybody who may run the one may run the other.
func TestMGETIsNotAnsweredForUsersWhoMayNotRunIt(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	node.Do(t, "ACL", "SETUSER", "user", "on", ">pw", "allkeys", "+@all", "-mget")
	node.Do(t, "MSET", "a", "1", "b", "2")
	b := startNear(t, node.Addr())
	c := dialAs(t, b.Addr(), "user")
	for range 5 {
		c.Do("GET", "a")
		c.Do("GET", "b")
		if got := c.Do("MGET", "a", "b"); !refused(got) {
			t.Fatal(got)
		}
	}
	if got := dial(t, b.Addr()).Do("ACL", "SETUSER", "user", "+mget"); got != "OK" {
		t.Fatal(got)
	}
	b.warm(c, "MGET", "a", "b")
	if got := dial(t, b.Addr()).Do("ACL", "SETUSER", "user", "-mget"); got != "OK" {
		t.Fatal(got)
	}
	c.Do("GET", "a")
	if got := c.Do("MGET", "a", "b"); !refused(got) {
		t.Error(got)
	}
}

func TestMGETDoesNotBringWhatIsLong(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startNear(t, node.Addr())
	c := dial(t, b.Addr())
	b.warm(c, "MGET", "k", "other")
	node.Do(t, "SET", "k", strings.Repeat("long", 1<<20))
	eventually(t, "the value to be known as long", func() bool {
		c.Do("GET", "k")
		return b.near().TooLong > 0
	})
	onLoops(b, func(l *loop) bool { // as if that were a while ago
		for _, sp := range l.near.spaces {
			sp.table.Keys(func(k *near.Key[nearPending], _, _ int) { k.Shun(0, nil, 0) })
		}
		return true
	})
	fetches := b.near().Fetches
	for range 5 {
		c.Do("MGET", "k", "other")
	}
	if n := b.near().Fetches - fetches; n > 0 {
		t.Errorf("%d fetches", n)
	}
}
