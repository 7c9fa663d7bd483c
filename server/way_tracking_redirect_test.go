package main

import (
	"fmt"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// redirectTalks are conversations of a client that tracks (a), the one that it redirects to (t),
// and one that writes (o). "t<" is what t hears next, @t its number.
var redirectTalks = map[string]string{
	"errors": "a CLIENT TRACKING ON REDIRECT 999999; a CLIENT TRACKING ON REDIRECT 0; a CLIENT TRACKING ON REDIRECT x; a CLIENT TRACKING ON REDIRECT; " +
		"a CLIENT TRACKING OFF REDIRECT 999999; a CLIENT TRACKING ON REDIRECT @t REDIRECT 7; a CLIENT TRACKING ON REDIRECT @t what; " +
		"a CLIENT TRACKING ON what REDIRECT 999999; a CLIENT TRACKING maybe REDIRECT 999999; a CLIENT TRACKING maybe REDIRECT @t; " +
		"a CLIENT TRACKING OFF REDIRECT @t; a CLIENT GETREDIR; a CLIENT TRACKING ON REDIRECT @t OPTIN; a CLIENT TRACKING ON OPTOUT; " +
		"a CLIENT TRACKING ON BCAST; a CLIENT TRACKINGINFO; a CLIENT GETREDIR; a CLIENT INFO",
	"in RESP2 a subscriber hears": "t SUBSCRIBE __redis__:invalidate; a CLIENT TRACKING ON REDIRECT @t; a CLIENT TRACKINGINFO; a CLIENT INFO; a GET k; " +
		"o SET k 1; t<; a GET k; a SET k 2; t<; a GET k; o FLUSHALL; t<; a FLUSHALL; t<; a CLIENT TRACKING ON; a CLIENT GETREDIR; " +
		"a GET k; o SET k 1; a CLIENT TRACKING OFF; a CLIENT INFO",
	"in RESP3 any":     "t HELLO 3; a HELLO 3; a CLIENT TRACKING ON REDIRECT @t NOLOOP; a GET k; a SET k 1; a GET k; a GET j; o SET k 2; t<; a PING; a FLUSHALL; t<",
	"of two protocols": "t HELLO 3; a CLIENT TRACKING ON REDIRECT @t; a GET k; o SET k 1; t<; o FLUSHALL; t<; a HELLO 3; a GET k; o SET k 1; t<; o FLUSHALL; t<",
	"opt in and opt out": "t HELLO 3; a CLIENT TRACKING ON REDIRECT @t OPTIN; a GET j; a CLIENT CACHING YES; a GET k; o SET j 1; o SET k 1; t<; " +
		"a CLIENT TRACKING OFF; a CLIENT TRACKING ON REDIRECT @t OPTOUT; a CLIENT CACHING NO; a GET j; a GET k; o SET j 1; o SET k 1; t<; a CLIENT CACHING YES",
	"all keys of a prefix": "t HELLO 3; a CLIENT TRACKING ON REDIRECT @t BCAST PREFIX k; o MSET j 1 k 1; t<; a CLIENT TRACKING ON REDIRECT @t BCAST PREFIX kk; " +
		"a CLIENT TRACKING ON REDIRECT @t BCAST PREFIX j; o SET j 2; t<; a CLIENT TRACKINGINFO",
	"its own": "a HELLO 3; a CLIENT TRACKING ON REDIRECT @a; a GET k; o SET k 1; a<; a GET k; a SET k 2; a<; a CLIENT GETREDIR",
	"a target that is gone": "a HELLO 3; a CLIENT TRACKING ON REDIRECT @t; a GET k; t QUIT; t<; a CLIENT TRACKINGINFO; o SET k 1; a<; a CLIENT TRACKINGINFO; " +
		"a CLIENT GETREDIR; a CLIENT INFO; a GET k; o SET k 2; a<; a CLIENT TRACKING ON; a CLIENT TRACKINGINFO; a CLIENT INFO",
	"RESP2 hears nothing of that": "a CLIENT TRACKING ON REDIRECT @t; a GET k; t QUIT; t<; o SET k 1; a GET k; a RESET; a CLIENT INFO",
	"what watches and blocks":     "t HELLO 3; a CLIENT TRACKING ON REDIRECT @t; a WATCH k; a GET k; o SET k 1; t<; a MULTI; a EXEC; a BLPOP l 0.01; a GET k; o DEL k; t<",
}

// redirectTalk has a conversation at addr, and returns all that is said.
func redirectTalk(t *testing.T, addr, talk string) string {
	conns := map[string]*redistest.Conn{"a": dial(t, addr), "t": dial(t, addr), "o": dial(t, addr)}
	var numbers []string
	for name, c := range conns {
		numbers = append(numbers, "@"+name, fmt.Sprint(c.Do("CLIENT", "ID")))
		defer c.Close()
	}
	var said []string
	for line := range strings.SplitSeq("o FLUSHALL; "+talk, "; ") {
		who, words, _ := strings.Cut(strings.TrimSuffix(line, "<"), " ")
		c := conns[who]
		var reply string
		switch {
		case strings.HasPrefix(words, "QUIT"):
			c.Do("QUIT")
		case words == "" && who == "t" && strings.Contains(talk, "QUIT"):
			c.ReadAll()
		case words == "":
			reply = c.RecvRaw()
		default:
			c.WriteString(strings.NewReplacer(numbers...).Replace(words) + "\r\n")
			reply = c.RecvRaw()
		}
		switch {
		case strings.HasPrefix(words, "HELLO"):
			reply = reply[:1]
		case words == "CLIENT GETREDIR":
			reply = "redir=" + reply[1:]
		}
		said = append(said, fmt.Sprintf("%s: %q", line, inBrief(reply, numbers)))
	}
	return strings.Join(said, "\n")
}

var infoInBrief = regexp.MustCompile(`(?s)^.*flags=(\S+) .* (redir=\S+).*$`)

// inBrief takes out of a reply what is not the same at two servers: clients' numbers, most fields
// of CLIENT INFO.
func inBrief(reply string, numbers []string) string {
	reply = infoInBrief.ReplaceAllString(reply, "$1 $2")
	for i := 0; i < len(numbers); i += 2 {
		reply = regexp.MustCompile(`(redir=|redirect\r\n:|broken\r\n:)`+numbers[i+1]+`\b`).ReplaceAllString(reply, "${1}"+numbers[i])
	}
	return reply
}

func TestRedirectedInvalidationsAreThoseOfRedis(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	behind := redistest.Start(t)
	for _, loops := range []string{"1", "3"} {
		b := startBerth(t, behind.Addr(), "--loops", loops)
		for name, talk := range redirectTalks {
			want := redirectTalk(t, node.Addr(), talk)
			if got := redirectTalk(t, b.Addr(), talk); got != want {
				t.Errorf("%s, with %s loops:\n%s\nwant\n%s", name, loops, got, want)
			}
		}
		b.awaitClients(t, 0)
		eventually(t, "all connections to be closed", func() bool { s := b.leases(); return s.Leased == 0 && s.Waiting == 0 })
	}
}

// The reply and the invalidation come on two connections. The client that reads both has them in
// the order of Redis.
func TestOwnWriteIsAnsweredBeforeItIsHeard(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr())
	c := dial(t, b.Addr())
	c.Do("HELLO", 3)
	script(t, c, fmt.Sprint("CLIENT TRACKING ON REDIRECT ", c.Do("CLIENT", "ID"), " → OK"))
	key := unique("own")
	for range 300 {
		c.Do("GET", key)
		c.Send("SET", key, 1)
		if got := c.RecvRaw(); got != "+OK\r\n" {
			t.Fatalf("%q comes before the reply", got)
		}
		if got := c.RecvRaw(); got != keyPush(key) {
			t.Fatalf("heard %q", got)
		}
	}
}

// A reader that is slow, or whose loop is, costs no more than a mailbox: what is too much becomes
// one invalidation of all keys.
func TestMailboxIsBounded(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--loops", "1")
	c := dial(t, b.Addr())
	c.Do("HELLO", 3)
	var s *session
	b.count(func(found *session) bool { s = found; return true })
	done := make(chan int)
	s.loop.Post(func() { // nothing is delivered meanwhile
		m := s.hears()
		most := 0
		for i := range 100_000 {
			m.put(fmt.Appendf(nil, "*1\r\n$6\r\n%06d\r\n", i))
			most = max(most, len(m.mail))
		}
		done <- most
	})
	if most := <-done; most > maxMail/mailCost {
		t.Errorf("%d pieces of mail waited", most)
	}
	for first := true; ; first = false {
		switch got := c.RecvRaw(); {
		case got == forgetAll:
			return
		case !first && !strings.HasPrefix(got, string(invalidation)):
			t.Fatalf("%q", got)
		}
	}
}

// What a target does not read is its output, with the bound of any other.
func TestTargetThatDoesNotReadIsClosed(t *testing.T) {
	b := startBerth(t, redistest.Start(t).Addr())
	b.set("client-output-buffer-limit", "normal 1mb 0 0")
	c, hears, other := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	c.Do("HELLO", 3)
	hears.Do("HELLO", 3)
	id := hears.Do("CLIENT", "ID")
	script(t, c, fmt.Sprint("CLIENT TRACKING ON BCAST REDIRECT ", id, " → OK"))
	key := strings.Repeat("k", 100<<10)
	eventually(t, "the target to be closed", func() bool {
		for range 20 {
			other.Do("SET", key, 1)
		}
		return b.count(func(s *session) bool { return s.id == id }) == 0
	})
	other.Do("SET", key, 1)
	if got := c.RecvRaw(); got != fmt.Sprintf(">2\r\n$21\r\ntracking-redir-broken\r\n:%d\r\n", id) {
		t.Errorf("heard %.100q", got)
	}
}

// The ear goes with the lease: a client that waits for it must not wait for ever.
func TestLeaseIsLostBeforeItsEarIsThere(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	asked, isOver := make(chan struct{}), make(chan struct{})
	defer close(isOver)
	var begun atomic.Bool
	b := startBerth(t, startGate(t, node.Addr(), func(words string) {
		if words == "client id" && begun.CompareAndSwap(false, true) {
			close(asked)
			<-isOver
		}
	}).addr)
	target, c := dial(t, b.Addr()), dial(t, b.Addr())
	c.WriteString("CLIENT TRACKING ON REDIRECT " + fmt.Sprint(target.Do("CLIENT", "ID")) + "\r\n")
	<-asked
	node.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	c.RecvRaw()
}

// A node may be silent on berth's own words, too.
func TestNodeThatIsSilentToAnEarIsWaitedForNoLongerThanItsTimeout(t *testing.T) {
	parallel(t)
	asked, isOver := make(chan struct{}), make(chan struct{})
	defer close(isOver)
	var holds atomic.Bool
	b := startBerth(t, startGate(t, redistest.Start(t).Addr(), func(words string) {
		if words == "client id" && holds.CompareAndSwap(true, false) {
			close(asked)
			<-isOver
		}
	}).addr)
	var warm [2]*redistest.Conn // their connections are pooled: they have been asked before
	for i := range warm {
		warm[i] = dial(t, b.Addr())
		script(t, warm[i], "WATCH k → OK")
	}
	for _, c := range warm {
		script(t, c, "UNWATCH → OK")
	}
	eventually(t, "the connections to be idle", func() bool { return b.leases().Idle == len(warm) })
	holds.Store(true)
	warm[0].WriteString("CLIENT TRACKING ON REDIRECT " + fmt.Sprint(warm[1].Do("CLIENT", "ID")) + "\r\n")
	<-asked
	script(t, warm[1], "CONFIG SET backend-timeout-ms 50 → OK")
	if got := warm[0].RecvRaw(); !strings.HasPrefix(got, "-TRYAGAIN ") {
		t.Errorf("%q", got)
	}
}

// A node may say anything: what it leaves out damages nothing else of its reply.
func TestTrackingInfoWithoutFlagsKeepsItsShape(t *testing.T) {
	const head, tail = "*6\r\n$4\r\nname\r\n$1\r\nx\r\n", "$8\r\nprefixes\r\n*0\r\n"
	got := trackingInfoOf([]byte(head+"$8\r\nredirect\r\n:3\r\n"+tail), 7, true)
	if want := head + "$8\r\nredirect\r\n:7\r\n" + tail; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}
