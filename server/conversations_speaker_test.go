package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// speaker is a random client. Its seed and number make it what it is.
type speaker struct {
	*inputMaker // commands by the grammar, with keys that begin with the mark
	c           *conversations
	mark        string // "^000017": the client's number
	nc          net.Conn
	user        speakerUser
	ended       chan struct{} // closed when nothing more is read
	told        chan struct{} // the reply to the last ECHO has come
}

// sharedMark is what everybody may read: keys and channels that begin with it are shared on purpose,
// and what is written there carries it.
const sharedMark = "^000000"

func newSpeaker(c *conversations, id int64) *speaker {
	k := &speaker{c: c, mark: fmt.Sprintf("^%06d", id), ended: make(chan struct{}), told: make(chan struct{}, 1)}
	k.inputMaker = newInputMaker(k.mark, false)
	k.Rand = rand.New(rand.NewPCG(soakSeed, uint64(id)))
	if k.prefix += ":"; k.IntN(2) == 0 {
		k.prefix = "{" + k.mark + "}" // all keys in one slot
	}
	k.weird = k.IntN(4) == 0
	k.theme = k.themeOf(k.commands[k.IntN(len(k.commands))])
	k.user = speakerUsers[k.IntN(len(speakerUsers))]
	return k
}

// live is a speaker's life, from connecting to leaving.
func (c *conversations) live(id int64) {
	k := newSpeaker(c, id)
	nc, err := net.DialTimeout("tcp", c.addr, loadPatience)
	if err != nil {
		c.lost.add("client %d: %v", id, err)
		return
	}
	k.nc = nc
	defer nc.Close()
	listens := k.IntN(10)
	if listens > 2 {
		go k.listen()
	}
	k.say(k.greeting())
	for range 1 + k.IntN(8) {
		if !k.say(k.burst()) {
			break
		}
		if listens > 2 && k.IntN(3) > 0 {
			k.await()
		}
	}
	if listens == 2 { // late
		go k.listen()
	}
	k.leave(listens >= 2)
	nc.Close()
	if listens >= 2 {
		<-k.ended
	}
	c.tidy(k)
}

// say sends bytes. A client that reads too little is not read from, and gives up.
func (k *speaker) say(b []byte) bool {
	_ = k.nc.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	_, err := k.nc.Write(b)
	return err == nil
}

// await waits for the reply to the burst's ECHO, but not for long: it may never come.
func (k *speaker) await() {
	select {
	case <-k.told:
	case <-k.ended:
	case <-time.After(200 * time.Millisecond):
	}
}

// leave ends the client's connection in one of many ways.
func (k *speaker) leave(listens bool) {
	switch k.IntN(8) {
	case 0:
		_ = k.nc.(*net.TCPConn).SetLinger(0)
	case 1: // in the middle of a request
		b := k.burst()
		k.say(b[:k.IntN(len(b))])
	case 2:
		k.say(k.encodeOne("QUIT"))
		k.await()
	case 3, 4: // all replies come still, unless one blocks
		k.say(k.burst())
		_ = k.nc.(*net.TCPConn).CloseWrite()
		if listens {
			select {
			case <-k.ended:
			case <-time.After(100 * time.Millisecond):
			}
		}
	case 5: // in the middle of a reply
		k.say(redistest.Command("GET", k.own()))
	default:
		k.say(k.burst())
		k.await()
	}
}

// listen reads until the end, and looks for marks of others.
func (k *speaker) listen() {
	defer close(k.ended)
	var buf []byte
	var scanner codec.ReplyScanner
	chunk := make([]byte, 64<<10)
	token := []byte(k.mark + "told")
	for {
		n, err := k.nc.Read(chunk)
		if err != nil {
			return
		}
		seen := max(0, len(buf)-len(k.mark)+1)
		buf = append(buf, chunk[:n]...)
		k.c.heard.Add(int64(n))
		if mark := k.foreignIn(buf[seen:]); mark != "" {
			k.c.foreign.add("client %s (%s): %s in %.300q", k.mark, k.user.name, mark, buf[max(0, seen-100):])
		}
		for len(buf) > 0 {
			n, err := scanner.Scan(buf)
			if err != nil {
				k.c.unframed.add("client %s (%s): %v in %.300q", k.mark, k.user.name, err, buf)
				return
			}
			if n == 0 {
				break
			}
			k.c.replies.Add(1)
			if bytes.Contains(buf[:min(n, 100)], token) {
				select {
				case k.told <- struct{}{}:
				default:
				}
			}
			buf = buf[n:]
		}
	}
}

// foreignIn is the first whole mark in b that is another client's.
func (k *speaker) foreignIn(b []byte) string {
	if bytes.Count(b, []byte("^")) == bytes.Count(b, []byte(k.mark)) {
		return ""
	}
	for {
		at := bytes.IndexByte(b, '^')
		if at < 0 || at+len(k.mark) > len(b) {
			return ""
		}
		mark := string(b[at : at+len(k.mark)])
		if digits := strings.Trim(mark[1:], "0123456789"); digits == "" && mark != k.mark && mark != sharedMark {
			return mark
		}
		b = b[at+1:]
	}
}

func (k *speaker) encodeOne(words ...string) []byte {
	k.c.requests.Add(1)
	return []byte(k.encode(words))
}

// greeting is what the client says first.
func (k *speaker) greeting() (b []byte) {
	switch k.IntN(8) {
	case 0:
		b = k.encodeOne("HELLO", "3")
	case 1: // the default user
	default:
		b = k.encodeOne(k.user.login(k.IntN)...)
	}
	if k.IntN(3) > 0 {
		b = append(b, k.encodeOne("CLIENT", "SETNAME", k.mark)...)
	}
	return b
}

// burst is what the client sends at once.
func (k *speaker) burst() (b []byte) {
	for range 1 + k.IntN(12) {
		switch k.IntN(20) {
		case 0:
			if k.IntN(4) == 0 {
				b = append(b, k.malformed()...)
			}
		case 1, 2, 3, 4, 5, 6, 7:
			b = append(b, k.encodeOne(k.request()...)...)
		default:
			for _, words := range k.turn() {
				b = append(b, k.encodeOne(words...)...)
			}
		}
	}
	return append(b, k.encodeOne("ECHO", k.mark+"told")...)
}

func (k *speaker) own() string    { return fmt.Sprint(k.prefix, "m", k.IntN(ownKeys)) }
func (k *speaker) value() string  { return strings.Repeat(k.mark, k.size()/len(k.mark)) }
func (k *speaker) shared() string { return strings.Repeat(sharedMark, 1+k.IntN(20)) }

const (
	ownKeys    = 4
	sharedList = sharedMark + ":list"
	sharedWord = sharedMark + ":word"
	sharedNews = sharedMark + ":news"
)

// size is the length of a value: mostly short, sometimes so long that it travels in pieces.
func (k *speaker) size() int {
	switch n := k.IntN(100); {
	case n < 3:
		return k.IntN(4 << 20)
	case n < 10:
		return k.IntN(256 << 10)
	}
	return k.IntN(2 << 10)
}

// oddScripts answer what berth must not take for a node's own words, and values of all kinds.
var oddScripts = []string{
	"return {err=ARGV[2]..' '..ARGV[1]}", "return {err=ARGV[2]..' '..ARGV[1]}", "return redis.error_reply(ARGV[2])",
	"return {ok=ARGV[2]..ARGV[1]}", "return {{{{{{{{{{{ARGV[1]}},ARGV[1]}}}}}},{}}}}", "return {ARGV[1],{err=ARGV[2]},{ok='OK'},false,1}",
	"redis.setresp(3) return {big_number=ARGV[1]}", "redis.setresp(3) return {double=3.5}", "redis.setresp(3) return {map={[ARGV[1]]=ARGV[2]}}",
	"redis.setresp(3) return {set={[ARGV[1]]=true,a=true}}", "redis.setresp(3) return true", "redis.setresp(3) return nil",
	"redis.setresp(3) return {verbatim_string={format='txt',string=ARGV[1]}}", "return string.rep(ARGV[1], 100000)",
	"local t = {} for i = 1, 5000 do t[i] = ARGV[1] end return t",
}

func (k *speaker) oddWords() string {
	slot := router.Slot([]byte(k.own()))
	words := []string{
		fmt.Sprintf("MOVED %d 127.0.0.1:1", slot), fmt.Sprintf("ASK %d 127.0.0.1:1", slot), "MOVED 1 " + k.c.addr, "NOAUTH Authentication required.",
		"WRONGPASS invalid", "UNBLOCKED client unblocked via CLIENT UNBLOCK", "LOADING Redis is loading", "READONLY You can't write", "CLUSTERDOWN x",
		"NOSCRIPT No matching script", "EXECABORT x", "ERR EXEC without MULTI", "TRYAGAIN x", "NOPERM x", "ERR max number of clients reached", "MASTERDOWN x",
	}
	return words[k.IntN(len(words))]
}

// turn is a few requests that belong together.
func (k *speaker) turn() [][]string {
	list, timeout := k.prefix+"waits", []string{"0", "1", "0.1", "0.01", "0.01", "0.01", "0.01", "0.01", "0.01", "0.01"}[k.IntN(10)]
	switch k.IntN(22) {
	case 0, 1:
		return [][]string{{"SET", k.own(), k.value(), "EX", "30"}, {"GET", k.own()}}
	case 2:
		return [][]string{{"MSET", k.own(), k.value(), k.own(), k.value()}, {"MGET", k.own(), sharedWord, k.own(), k.own()}}
	case 3:
		return [][]string{{"GETRANGE", k.own(), "0", "-1"}, {"STRLEN", k.own()}, {"DEL", k.own()}, {"SET", sharedWord, k.shared()}}
	case 4:
		return [][]string{{"EVAL", oddScripts[k.IntN(len(oddScripts))], "1", k.own(), k.mark, k.oddWords()}}
	case 5:
		return [][]string{{"EVAL", oddScripts[k.IntN(len(oddScripts))], "0", k.mark, k.oddWords()}}
	case 6:
		return [][]string{{"WATCH", k.own()}, {"MULTI"}, {"SET", k.own(), k.value(), "EX", "30"}, {"GET", k.own()}, {[]string{"EXEC", "EXEC", "DISCARD"}[k.IntN(3)]}}
	case 7:
		return [][]string{{"MULTI"}, {"EVAL", oddScripts[k.IntN(len(oddScripts))], "1", k.own(), k.mark, k.oddWords()}, {"ECHO", k.mark}, {"EXEC"}}
	case 8:
		return [][]string{{"RPUSH", list, k.mark}, {"BLPOP", list, timeout}, {"BLPOP", list, timeout}}
	case 9:
		return [][]string{{"RPUSH", sharedList, k.shared()}, {"LTRIM", sharedList, "-50", "-1"}, {"BLPOP", sharedList, timeout}}
	case 10:
		return [][]string{{"BLMOVE", sharedList, sharedList, "LEFT", "RIGHT", timeout}, {"BLMPOP", timeout, "1", sharedList, "LEFT"}}
	case 11:
		return [][]string{{"XADD", k.prefix + "stream", "MAXLEN", "20", "*", "f", k.mark}, {"XREAD", "BLOCK", []string{"0", "5", "5", "5", "5", "5"}[k.IntN(6)], "STREAMS", k.prefix + "stream", "$"}}
	case 12:
		return [][]string{{"SUBSCRIBE", sharedNews, k.mark + ":c"}, {"PUBLISH", sharedNews, k.shared()}, {"PUBLISH", k.mark + ":c", k.mark}, {"PING", k.mark}}
	case 13:
		return [][]string{{"PSUBSCRIBE", k.mark + ":*", sharedMark + ":*"}, {"UNSUBSCRIBE"}, {"PUNSUBSCRIBE"}}
	case 14:
		return [][]string{{"SSUBSCRIBE", k.mark + ":s"}, {"SPUBLISH", k.mark + ":s", k.mark}, {"SUNSUBSCRIBE"}}
	case 15:
		return [][]string{{"CLIENT", "REPLY", []string{"OFF", "SKIP", "ON"}[k.IntN(3)]}, {"GET", k.own()}, {"CLIENT", "REPLY", "ON"}}
	case 16:
		return [][]string{{"HELLO", "3"}, append([]string{"CLIENT", "TRACKING", "ON"}, [][]string{{}, {"OPTIN"}, {"BCAST", "PREFIX", k.prefix}, {"NOLOOP"}}[k.IntN(4)]...),
			{"GET", k.own()}, {"GET", sharedWord}, {"SET", k.own(), k.mark}}
	case 17:
		return [][]string{{[]string{"RESET", "UNSUBSCRIBE", "DISCARD", "UNWATCH", "PUNSUBSCRIBE"}[k.IntN(5)]}}
	case 18:
		return [][]string{speakerUsers[k.IntN(len(speakerUsers))].login(k.IntN), {"ACL", "WHOAMI"}}
	case 19:
		return [][]string{{"AUTH", k.user.name, k.mark}, {"HELLO", fmt.Sprint(1 + k.IntN(4))}, {"SELECT", fmt.Sprint(k.IntN(3))}, {"CLIENT", "SETNAME", k.mark}}
	case 20: // what no speaker may do
		return [][]string{{"FLUSHALL"}, {"SET", "fort:0:a", k.mark}, {"CLIENT", "KILL", "TYPE", "normal"}, {"CLIENT", "LIST"}, {"KEYS", "*"},
			{"CONFIG", "SET", "maxclients", "1"}, {"ACL", "SETUSER", "default", "+@all"}, {"CLIENT", "PAUSE", "60000"}, {"GET", "fort:0:a"}}[k.IntN(5):]
	}
	var gets [][]string
	for range k.IntN(200) {
		gets = append(gets, []string{"GET", k.own()})
	}
	return gets
}

// tidy removes what a speaker has left at the nodes.
func (c *conversations) tidy(k *speaker) {
	conn, err := c.dial()
	if err != nil {
		c.lost.add("tidying: %v", err)
		return
	}
	defer conn.Close()
	keys := []string{"UNLINK", k.prefix + "waits", k.prefix + "stream"}
	for i := range ownKeys {
		keys = append(keys, fmt.Sprint(k.prefix, "m", i))
	}
	for _, names := range fixtureKeys {
		for _, name := range names {
			keys = append(keys, k.prefix+name)
		}
	}
	got, err := conn.TryDo(keys)
	if _, number := got.(int64); err != nil {
		c.lost.add("tidying: %v", err)
	} else if !number {
		c.wrong.add("tidying: %v", got)
	}
}
