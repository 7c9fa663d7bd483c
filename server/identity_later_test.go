package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// A deleted user takes its clients along. Who knew its password knows nothing of a later user of the
// same name, whose clients log in at once.
func TestClientsOfADeletedUserAreNotThoseOfALaterOne(t *testing.T) {
	overBackends(t, []string{"--requirepass", "secret", "--hz", "500"}, func(t *testing.T, nodes backing) {
		parallel(t)
		b := startBerth(t, nodes.url(":secret@"))
		for round := range sized(3, 20) {
			user := fmt.Sprint("u", round)
			secret, list := "{lu}secret"+user, "{lu}list"+user
			nodes.each(t, "ACL", "SETUSER", user, "on", ">old", "+@all", "-get", "~*", "&*")
			admin := dial(t, b.Addr())
			script(t, admin, "AUTH secret → OK", "SET "+secret+" s → OK")
			old := map[string]*redistest.Conn{}
			for _, does := range []string{"PING", "WATCH " + list, "BLPOP " + list + " 0", "SUBSCRIBE {lu}c"} {
				c := dial(t, b.Addr())
				script(t, c, "AUTH "+user+" old → OK")
				c.Send(strings.Fields(does))
				if !strings.HasPrefix(does, "BLPOP") {
					c.Recv()
				}
				old[does] = c
			}
			eventually(t, "one to block", func() bool {
				for _, node := range nodes {
					if strings.Contains(fmt.Sprint(node.Do(t, "INFO", "clients")), "blocked_clients:1") {
						return true
					}
				}
				return false
			})
			stop := make(chan bool)
			done := make(chan bool)
			go func() { // the later user's own clients come as soon as they can
				defer close(done)
				for {
					select {
					case <-stop:
						return
					default:
					}
					if c, err := redistest.TryDial(t, b.Addr()); err == nil {
						_, _ = c.TryDo("AUTH", user, "new")
						_, _ = c.TryDo("GET", secret)
						c.Close()
					}
				}
			}()
			for _, node := range nodes {
				c := redistest.Dial(t, node.Addr())
				c.Do("AUTH", "secret")
				pipelined(c, "ACL DELUSER "+user, "ACL SETUSER "+user+" on >new ~* &* +@all")
				c.Close()
			}
			begun := time.Now()
			admin.Do("RPUSH", list, "element")
			admin.Do("PUBLISH", "{lu}c", "message")
			for does, c := range old {
				if strings.HasPrefix(does, "BLPOP") || strings.HasPrefix(does, "SUBSCRIBE") {
					for {
						got, err := c.TryRecv()
						if err != nil {
							break
						}
						if text := fmt.Sprint(got); strings.Contains(text, "element") || strings.Contains(text, "message") {
							t.Errorf("%s hears %v", does, got)
						}
					}
					continue
				}
				for {
					got, err := c.TryDo("GET", secret)
					if err != nil {
						break
					}
					if got == "s" {
						t.Errorf("after %s: reads what only the later user may", does)
						break
					}
				}
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("the old clients were there for %v", took)
			}
			close(stop)
			<-done
			late := dial(t, b.Addr())
			script(t, late, "AUTH "+user+" new → OK", "GET "+secret+" → s")
		}
	})
}

// Where a node takes any password, those that clients make up stay nobody's: they open nothing that
// a real one opens later.
func TestAMadeUpPasswordIsTakenForNoOther(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--requirepass", "secret", "--hz", "500")
	node.Do(t, "ACL", "SETUSER", "u", "on", ">real", "~*", "+@all")
	b := startBerth(t, "redis://:secret@"+node.Addr())
	honest, maker := dial(t, b.Addr()), dial(t, b.Addr())
	script(t, honest, "AUTH u real → OK", "SET mu:k v → OK")
	node.Do(t, "ACL", "SETUSER", "u", "nopass")
	script(t, maker, "AUTH u garbage → OK", "GET mu:k → v")
	late := dial(t, b.Addr())
	script(t, late, "AUTH u other → OK", "GET mu:k → v", "AUTH u late → OK")
	node.Do(t, "ACL", "SETUSER", "u", "resetpass", ">late", ">real") // nobody is deleted: all are served on
	node.Do(t, "CLIENT", "KILL", "USER", "u")
	for _, c := range []*redistest.Conn{honest, maker, late} {
		script(t, c, "GET mu:k → v", "WATCH mu:k → OK", "UNWATCH → OK")
	}
	c := redistest.Dial(t, node.Addr())
	c.Do("AUTH", "secret")
	pipelined(c, "MULTI", "ACL DELUSER u", "ACL SETUSER u on >real ~* +@all", "EXEC")
	for _, x := range []*redistest.Conn{maker, late} {
		if got, err := x.TryDo("GET", "mu:k"); err == nil && got == "v" {
			t.Error("a client that never knew the password is taken for the new user")
		}
	}
	script(t, honest, "GET mu:k → v")
}

// A client whose password is refused asks the node no more than once a second.
func TestARefusedPasswordCostsANodeFewConnections(t *testing.T) {
	parallel(t)
	node := redistest.Start(t, "--requirepass", "secret")
	node.Do(t, "ACL", "SETUSER", "u", "on", ">old", "~*", "+@all")
	b := startBerth(t, "redis://:secret@"+node.Addr())
	c := dial(t, b.Addr())
	script(t, c, "AUTH u old → OK", "SET rp:k v → OK")
	node.Do(t, "ACL", "SETUSER", "u", "<old", ">new")
	received := func() (n int) {
		for line := range strings.Lines(fmt.Sprint(node.Do(t, "INFO", "stats"))) {
			_, _ = fmt.Sscanf(line, "total_connections_received:%d", &n)
		}
		return n
	}
	before, begun := received(), time.Now()
	for range 300 {
		if got := c.Do("WATCH", "rp:k"); got != redistest.Error(wrongPass) {
			t.Fatal(got)
		}
	}
	script(t, c, "GET rp:k → v")
	if n, most := received()-before, 20+4*int(time.Since(begun)/time.Second); n > most {
		t.Errorf("%d connections for 300 refusals", n)
	}
}
