package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

// The suites are conversations of several clients, by subject: suite_*_test.go. Each is held with a redis-server, and with
// berth in front of another one, and what the clients are answered is compared: in RESP2, in RESP3 and over a cluster.

// A conversation is what some clients do one after the other, a line each. %t stands for a prefix of keys of its own, @a for
// the CLIENT ID of client a.
//
//	a: GET %tk          a asks, and is answered
//	a> BLPOP %tl 0      a asks, and blocks; the next line is for when it does
//	a! PING             a asks; the answer is taken later
//	a<                  a takes an answer that it is owed
//	a<<                 a takes what comes until it is disconnected; the next line is as after a disconnect
//	a.                  a disconnects; if it blocked, the next line is for when it does not any more
type conversation struct {
	name  string
	lines string
	alone bool // not over a cluster: it is about databases, or about keys of more than one slot
}

// talk is one conversation being held with one side.
type talk struct {
	t       *testing.T
	addr    string
	servers []*redistest.Server // that block
	berth   *berthServer        // in front of them; nil: nothing is
	resp    int
	tag     string
	clients map[string]*talker
}

// talker is one client.
type talker struct {
	*redistest.Conn
	id      any
	blocked bool
}

// said is a line with what was answered to it, if anything was.
type said struct {
	line  string
	words []string
	reply string
}

var talkLine = regexp.MustCompile(`^([a-z])(:|>|!|<<|<|\.) ?(.*)$`)

// hold has the conversation, and returns what was answered.
func (k *talk) hold(lines string) (all []said) {
	k.t.Helper()
	k.clients = map[string]*talker{}
	defer func() {
		for _, c := range k.clients {
			c.Close()
		}
		k.awaitBlocked(0)
	}()
	pending := map[string][][]string{}
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		parts := talkLine.FindStringSubmatch(line)
		if parts == nil {
			k.t.Fatalf("no line of a conversation: %s", line)
		}
		who, how := parts[1], parts[2]
		c := k.client(who)
		words := k.words(parts[3])
		switch how {
		case ":":
			all = append(all, said{line, words, c.DoRaw(words)})
		case ">", "!":
			c.Send(words)
			pending[who] = append(pending[who], words)
			if how == ">" {
				c.blocked = true
				k.awaitBlocked(k.blocked())
			}
		case "<":
			s := said{line: line, reply: c.RecvRaw()}
			if owed := pending[who]; len(owed) > 0 {
				s.words, pending[who] = owed[0], owed[1:]
			}
			c.blocked = false
			all = append(all, s)
		case "<<":
			all = append(all, said{line: line, reply: c.ReadAll()})
			delete(k.clients, who)
			k.awaitBlocked(k.blocked())
		case ".":
			c.Close()
			delete(k.clients, who)
			k.awaitBlocked(k.blocked())
		}
	}
	return all
}

func (k *talk) client(who string) *talker {
	c := k.clients[who]
	if c == nil {
		c = &talker{Conn: dial(k.t, k.addr)}
		c.Do("HELLO", k.resp)
		c.id = c.Do("CLIENT", "ID")
		k.clients[who] = c
	}
	return c
}

func (k *talk) blocked() (n int) {
	for _, c := range k.clients {
		if c.blocked {
			n++
		}
	}
	return n
}

// awaitBlocked waits until so many clients block: on the servers, or in berth, with lanes that block there.
func (k *talk) awaitBlocked(n int) {
	k.t.Helper()
	clients, atServers := n, n
	var watchers []*redistest.Conn
	for _, s := range k.servers {
		watchers = append(watchers, dial(k.t, s.Addr()))
	}
	eventually(k.t, fmt.Sprintf("%d blocked clients", n), func() bool {
		sum := 0
		if k.berth != nil {
			var settled bool
			if clients, atServers, settled = k.berth.blockedNow(); !settled {
				return false
			}
		}
		for _, w := range watchers {
			info := w.Do("INFO", "clients").(string)
			_, rest, _ := strings.Cut(info, "blocked_clients:")
			var blocked int
			_, _ = fmt.Sscan(rest, &blocked)
			sum += blocked
		}
		return clients == n && sum == atServers
	})
	for _, w := range watchers {
		w.Close()
	}
}

// blockedNow counts the clients that block and the connections on which they do. settled: no lane is on its way.
func (b *berthServer) blockedNow() (clients, connections int, settled bool) {
	type count struct {
		clients, connections int
		moving               bool
	}
	counts, silent := askLoops(b.srv, func(l *loop) (n count) {
		load := l.lanes.Load()
		n.clients, n.connections = load.Waiters, load.Lanes
		n.moving = load.Armed < load.Lanes || load.Lanes < load.Groups
		for s := l.first; s != nil; s = s.next {
			if s.pause == pauseBlocked && s.blocked == nil { // on its own
				n.clients++
				n.connections++
			}
		}
		return n
	})
	settled = len(silent) == 0
	for _, n := range counts {
		clients, connections, settled = clients+n.clients, connections+n.connections, settled && !n.moving
	}
	return clients, connections, settled
}

var clientOf = regexp.MustCompile(`@([a-z])\b`)

// words are a line's words as an inline request has them.
func (k *talk) words(line string) (words []string) {
	line = strings.ReplaceAll(line, "%t", k.tag)
	line = clientOf.ReplaceAllStringFunc(line, func(at string) string {
		if c := k.clients[at[1:]]; c != nil {
			return fmt.Sprint(c.id)
		}
		return at
	})
	if line == "" {
		return nil
	}
	var p codec.RequestParser
	if _, err := p.Parse([]byte(line+"\r\n"), nil); err != nil {
		k.t.Fatalf("%s: %v", line, err)
	}
	for _, a := range p.Args() {
		words = append(words, string(a))
	}
	return words
}

// compareTalks holds the conversations with both sides.
func compareTalks(t *testing.T, conversations []conversation, args ...string) {
	args = slices.Concat(suiteBerth, args)
	direct, behind := redistest.Start(t, suiteServer...), redistest.Start(t, suiteServer...)
	b := startBerth(t, behind.Addr(), args...)
	for _, resp := range []int{2, 3} {
		t.Run(fmt.Sprintf("RESP%d", resp), func(t *testing.T) {
			for _, c := range conversations {
				t.Run(c.name, func(t *testing.T) {
					compareTalk(t, c, slices.Concat(channelDifferences, b.differences()),
						&talk{addr: direct.Addr(), servers: []*redistest.Server{direct}, resp: resp},
						&talk{addr: b.Addr(), servers: []*redistest.Server{behind}, berth: b, resp: resp})
				})
			}
		})
	}
	b = startBerth(t, clusterURL(sharedCluster(t)), args...)
	alone := shared.alone()
	nodes := []*redistest.Server{sharedCluster(t).Node(0), sharedCluster(t).Node(1), sharedCluster(t).Node(2)}
	t.Run("cluster", func(t *testing.T) {
		for _, c := range conversations {
			if c.alone {
				continue
			}
			t.Run(c.name, func(t *testing.T) {
				compareTalk(t, c, slices.Concat(clusterDifferences, channelDifferences, b.differences()),
					&talk{addr: alone.Node(0).Addr(), servers: []*redistest.Server{alone.Node(0)}, resp: 2},
					&talk{addr: b.Addr(), servers: nodes, berth: b, resp: 2})
			})
		}
	})
}

// suiteServer is how the servers of the suites run.
var suiteServer = []string{"--enable-debug-command", "yes", "--hz", "100", "--dynamic-hz", "no"}

// suiteBerth is how berth runs: with several lanes, elements that come together may change places on the way.
var suiteBerth = []string{"--enable-debug-command", "yes", "--blocking-lanes-max", "1"}

func compareTalk(t *testing.T, c conversation, explains []difference, direct, berth *talk) {
	t.Helper()
	tag := "{" + unique("suite") + "}"
	direct.t, berth.t, direct.tag, berth.tag = t, t, tag, tag
	want, got := direct.hold(c.lines), berth.hold(c.lines)
	d := differ{explains: explains, met: map[string]int{}}
	for i := range want {
		m := met{words: want[i].words, direct: []byte(want[i].reply), berth: []byte(got[i].reply)}
		m.cmd, _ = commandOf(m.words)
		if got[i].reply != want[i].reply && d.explain(m) == nil {
			t.Errorf("%s\n got %.1500q\nwant %.1500q", want[i].line, got[i].reply, want[i].reply)
		}
	}
}
