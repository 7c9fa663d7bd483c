package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// pipeline is commands as the bytes of one write.
func pipeline(commands ...string) string {
	var b strings.Builder
	for _, c := range commands {
		b.Write(redistest.Command(strings.Fields(c)))
	}
	return b.String()
}

// replies reads n replies as they came.
func replies(c *redistest.Conn, n int) []string {
	got := make([]string, n)
	for i := range got {
		got[i] = c.RecvRaw()
	}
	return got
}

// everyBackend runs a test over one node, over a cluster and over the embedded backend.
func everyBackend(t *testing.T, test func(t *testing.T, b *berthServer)) {
	t.Run("standalone", func(t *testing.T) { test(t, startBerth(t, sharedNode(t).Addr())) })
	t.Run("cluster", func(t *testing.T) { test(t, startBerth(t, clusterURL(sharedCluster(t)))) })
	t.Run("embedded", func(t *testing.T) { test(t, startBerth(t, "")) })
}

func TestPlainBlockingAndWatchedCommandsOfOneWriteAreAnsweredInOrder(t *testing.T) {
	everyBackend(t, func(t *testing.T, b *berthServer) {
		for first, keys := range []string{"{%s}", "%s:"} { // one slot, many slots
			t.Run(keys, func(t *testing.T) {
				check := func(cut func(in string) []string) {
					run := unique("ord")
					l, k := fmt.Sprintf(keys, run)+"l", fmt.Sprintf(keys, run)+"k"
					in := pipeline("RPUSH "+l+" x", "BLPOP "+l+" 1", "SET "+k+" 1", "WATCH "+k, "GET "+k, "MULTI", "INCR "+k, "EXEC", "GET "+k)
					want := fmt.Sprintf(":1\r\n*2\r\n$%d\r\n%s\r\n$1\r\nx\r\n+OK\r\n+OK\r\n$1\r\n1\r\n+OK\r\n+QUEUED\r\n*1\r\n:2\r\n$1\r\n2\r\n", len(l), l)
					c := dial(t, b.Addr())
					defer c.Close()
					pieces := cut(in)
					for _, p := range pieces {
						b.feed(c, p)
					}
					if got := strings.Join(replies(c, 9), ""); got != want {
						t.Fatalf("in %d pieces, the first %q:\n got %q\nwant %q", len(pieces), pieces[0], got, want)
					}
					c.Do("DEL", k)
				}
				check(func(in string) []string { return []string{in} })
				for i, more := 1+first, true; more; i += 2 { // each cut with the one or the other
					check(func(in string) []string {
						more = i+2 < len(in)
						return []string{in[:i], in[i:]}
					})
				}
				check(func(in string) []string { return strings.Split(in, "") })
			})
		}
	})
}

// A generator makes commands whose replies depend on nothing but the commands before them, all on
// keys with one prefix.
type generator struct {
	*rand.Rand
	key    func(i int) string
	inside bool // MULTI
	watch  bool
	spread bool   // keys lie in many slots: no transactions
	rest   func() // between two writes; nil: none
}

func (g *generator) word() string  { return fmt.Sprintf("w%d", g.IntN(20)) }
func (g *generator) any() string   { return g.key(g.IntN(6)) }
func (g *generator) list() string  { return g.key(10 + g.IntN(3)) }
func (g *generator) count() string { return g.key(20) }

// next is one command.
func (g *generator) next() []string {
	if g.inside {
		switch g.IntN(8) {
		case 0:
			g.inside, g.watch = false, false
			return []string{"EXEC"}
		case 1:
			if g.IntN(3) == 0 {
				g.inside, g.watch = false, false
				return []string{"DISCARD"}
			}
			return []string{"PING"}
		case 2:
			return []string{"BLPOP", g.list(), "1"}
		}
		return g.plain()
	}
	kind := g.IntN(20)
	if g.spread && kind < 4 {
		return g.plain()
	}
	switch kind {
	case 0, 1:
		g.inside = true
		return []string{"MULTI"}
	case 2:
		g.watch = true
		return []string{"WATCH", g.any()}
	case 3:
		if g.watch {
			g.watch = false
			return []string{"UNWATCH"}
		}
		return []string{"EXEC"}
	case 4, 5: // it finds an element or is answered nil at once, by BLMPOP's own timeout of a millisecond
		return []string{"BLMPOP", "0.001", "1", g.list(), "LEFT"}
	case 6:
		return []string{"ECHO", g.word()}
	case 7:
		return []string{"PING"}
	case 8:
		return []string{"nonsense", g.word()}
	}
	return g.plain()
}

func (g *generator) plain() []string {
	switch g.IntN(16) {
	case 0, 1:
		return []string{"SET", g.any(), g.word()}
	case 2, 3:
		return []string{"GET", g.any()}
	case 4, 5:
		return []string{"INCR", g.count()}
	case 6:
		return []string{"RPUSH", g.list(), g.word(), g.word()}
	case 7:
		return []string{"LRANGE", g.list(), "0", "-1"}
	case 8:
		return []string{"MGET", g.any(), g.any(), g.any()}
	case 9:
		return []string{"MSET", g.any(), g.word(), g.any(), g.word()}
	case 10:
		return []string{"DEL", g.any(), g.any()}
	case 11:
		return []string{"EXISTS", g.any(), g.any(), g.any()}
	case 12:
		return []string{"LLEN", g.any()} // often of the wrong type
	case 13:
		return []string{"APPEND", g.any(), g.word()}
	case 14:
		return []string{"GET"}
	default:
		return []string{"STRLEN", g.any()}
	}
}

// TestPipelinesOfManyClientsAreAnsweredAsByRedisDirectly has many clients send the same random
// commands to berth and to a redis-server, each client under its own keys, in writes of random
// size.
func TestPipelinesOfManyClientsAreAnsweredAsByRedisDirectly(t *testing.T) {
	parallel(t)
	direct := redistest.Start(t)
	for name, backend := range map[string]string{
		"standalone": redistest.Start(t).Addr(),
		"cluster":    clusterURL(sharedCluster(t)),
	} {
		t.Run(name, func(t *testing.T) {
			b := startBerth(t, backend)
			const clients, rounds = 40, 12
			var wg sync.WaitGroup
			for client := range clients {
				wg.Go(func() {
					tag := unique("rnd")
					g := &generator{Rand: rand.New(rand.NewPCG(7, uint64(client))), key: func(i int) string { return fmt.Sprintf("{%s}%d", tag, i) }}
					comparePipelines(t, b.Addr(), direct.Addr(), g, rounds)
				})
			}
			wg.Wait()
		})
	}
}

// comparePipelines sends rounds of commands to both and compares each reply.
func comparePipelines(t *testing.T, berth, direct string, g *generator, rounds int) {
	x, errX := redistest.TryDial(t, berth)
	y, errY := redistest.TryDial(t, direct)
	if errX != nil || errY != nil {
		t.Error(errX, errY)
		return
	}
	var history []string
	for range rounds {
		if g.rest != nil {
			g.rest()
		}
		n := 1 + g.IntN(60)
		var bytes []byte
		for range n {
			words := g.next()
			history = append(history, strings.Join(words, " "))
			bytes = append(bytes, redistest.Command(words)...)
		}
		for _, c := range []*redistest.Conn{x, y} {
			if err := c.TryWrite(bytes); err != nil {
				t.Error(err)
				return
			}
		}
		for i := range n {
			got, errX := x.TryRecv()
			want, errY := y.TryRecv()
			if errX != nil || errY != nil || fmt.Sprintf("%#v", got) != fmt.Sprintf("%#v", want) {
				at := len(history) - n + i
				t.Errorf("reply to %q is %#v (%v), of Redis %#v (%v); before it:\n%s",
					history[at], got, errX, want, errY, strings.Join(history[max(0, at-12):at], "\n"))
				return
			}
		}
	}
}

// TestSplitCommandsOfManyClientsAreAnsweredAsByRedisDirectly is the same with keys all over the
// cluster, without what cannot span slots.
func TestSplitCommandsOfManyClientsAreAnsweredAsByRedisDirectly(t *testing.T) {
	parallel(t)
	direct := redistest.Start(t)
	b := startBerth(t, clusterURL(sharedCluster(t)))
	var wg sync.WaitGroup
	for client := range 30 {
		wg.Go(func() {
			prefix := unique("spl")
			g := &generator{Rand: rand.New(rand.NewPCG(8, uint64(client))), key: func(i int) string { return fmt.Sprintf("%s:%d", prefix, i) }}
			g.spread = true
			comparePipelines(t, b.Addr(), direct.Addr(), g, 12)
		})
	}
	wg.Wait()
}
