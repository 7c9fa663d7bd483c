package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// readsWhere tells where a client's commands are read: "primary", "replica", or "neither" if berth
// counts them nowhere.
func readsWhere(t *testing.T, b *berthServer, c *redistest.Conn, commands ...string) string {
	t.Helper()
	_, primaries, replicas := readsAt(t, b)
	for _, command := range commands {
		c.Do(strings.Fields(command))
	}
	_, nowPrimaries, nowReplicas := readsAt(t, b)
	switch {
	case nowReplicas-replicas == int64(len(commands)) && nowPrimaries == primaries:
		return "replica"
	case nowReplicas == replicas && nowPrimaries == primaries:
		return "neither"
	case nowReplicas == replicas:
		return "primary"
	}
	return fmt.Sprintf("%d by primaries, %d by replicas", nowPrimaries-primaries, nowReplicas-replicas)
}

func TestClientsChooseWhetherTheyReadFromReplicas(t *testing.T) {
	parallel(t)
	p := startPairs(t)
	reads := []string{"GET {k}", "HGET h{k} f", "STRLEN {k}"}
	for _, policy := range []string{"primary", "prefer-replica"} {
		t.Run(policy, func(t *testing.T) {
			b := startBerth(t, clusterURL(p.cluster), "--read-from", policy)
			c, other := dial(t, b.Addr()), dial(t, b.Addr())
			step := func(command, want string) {
				t.Helper()
				if got := c.Do(command); got != "OK" && got != "RESET" {
					t.Fatalf("%s: %v", command, got)
				}
				if want == "replica" {
					eventually(t, "reads to go to the replica after "+command, func() bool { return readsWhere(t, b, c, reads...) == "replica" })
				}
				for range 5 {
					if got := readsWhere(t, b, c, reads...); strings.Contains(got, "replica") != (want == "replica") {
						t.Errorf("after %s reads go to: %s", command, got)
					}
				}
			}
			usual := map[string]string{"primary": "primary", "prefer-replica": "replica"}[policy]
			step("READONLY", "replica")
			if policy == "primary" {
				if got := readsWhere(t, b, other, reads...); strings.Contains(got, "replica") {
					t.Errorf("another client's reads go to: %s", got)
				}
			}
			step("READWRITE", "primary")
			step("READONLY", "replica")
			step("RESET", usual)
			step("READWRITE", "primary")
			step("RESET", usual)
		})
	}
}

func TestPromisesOfOneNodeAreReadFromThePrimary(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica")
	f.primary.Do(t, "SET", "k", "v")
	f.primary.Do(t, "CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
	f.replicas[0].Do(t, "CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
	c := dial(t, b.Addr())
	reads := []string{"GET k", "STRLEN k", "EXISTS k", "TYPE k", "TTL k"}
	eventually(t, "plain reads to go to the replica", func() bool { return readsWhere(t, b, c, reads...) == "replica" })
	for _, state := range []struct{ name, begin, end string }{
		{"WATCH", "WATCH w", "UNWATCH"},
		{"MULTI", "MULTI", "EXEC"},
		{"CLIENT TRACKING", "CLIENT TRACKING ON", "CLIENT TRACKING OFF"},
		{"CLIENT TRACKING BCAST", "CLIENT TRACKING ON BCAST", "CLIENT TRACKING OFF"},
	} {
		c := dial(t, b.Addr())
		c.Do("HELLO", 3)
		c.Do(strings.Fields(state.begin))
		if got := readsWhere(t, b, c, reads...); strings.Contains(got, "replica") {
			t.Errorf("%s: reads go to: %s", state.name, got)
		}
		c.Do(strings.Fields(state.end))
		eventually(t, "reads to go to the replica after "+state.name, func() bool { return readsWhere(t, b, c, reads...) == "replica" })
	}
	for _, command := range []string{"TOUCH k", "OBJECT FREQ k"} {
		if got := readsWhere(t, b, c, command); strings.Contains(got, "replica") {
			t.Errorf("%s goes to: %s", command, got)
		}
	}
	if got := c.Do("OBJECT", "FREQ", "k"); fmt.Sprintf("%T", got) != "int64" {
		t.Errorf("OBJECT FREQ: %v", got)
	}
}

func TestScriptsThatOnlyReadRunOnReplicas(t *testing.T) {
	parallel(t)
	p := startPairs(t)
	b := startBerth(t, clusterURL(p.cluster), "--read-from", "prefer-replica")
	awaitReadable(t, b, 3)
	c := dial(t, b.Addr())
	const library = "#!lua name=lib\nredis.register_function{function_name='peek', callback=function(keys) return redis.call('get', keys[1]) end, flags={'no-writes'}}"
	if got := c.Do("FUNCTION", "LOAD", library); got != "lib" {
		t.Fatalf("FUNCTION LOAD: %v", got)
	}
	const script = "return redis.call('get', KEYS[1])"
	digest, _ := c.Do("SCRIPT", "LOAD", script).(string)
	if got := dial(t, b.Addr()).Do("EVALSHA_RO", digest, 1, "k"); got != nil {
		t.Errorf("EVALSHA_RO: %v", got)
	}
	for _, tag := range p.tags {
		key := "k" + tag
		c.Do("SET", key, tag)
		reader := dial(t, b.Addr())
		eventually(t, "the value to be read from the replica", func() bool {
			return reader.Do("GET", key) == tag && readsWhere(t, b, reader, "GET "+key) == "replica"
		})
		for _, command := range [][]any{
			{"EVAL_RO", script, 1, key}, {"EVAL_RO", "--\n" + script, 1, key}, {"EVALSHA_RO", digest, 1, key}, {"FCALL_RO", "peek", 1, key},
			{"EVALSHA_RO", sha("--\n" + script), 1, key},
		} {
			_, _, before := readsAt(t, b)
			if got := reader.Do(command...); got != tag {
				t.Errorf("%v: %v", command, got)
			}
			if _, _, now := readsAt(t, b); now != before+1 {
				t.Errorf("%v: %d reads at replicas", command, now-before)
			}
		}
		// What a replica has forgotten it gets again.
		for i := range p.cluster.Len() {
			p.cluster.Node(i).Do(t, "SCRIPT", "FLUSH")
		}
		eventually(t, "the script to be there again", func() bool { return reader.Do("EVALSHA_RO", digest, 1, key) == tag })
		if got := fmt.Sprint(reader.Do("EVAL_RO", "return redis.call('set', KEYS[1], 1)", 1, key)); !strings.Contains(got, "Write commands are not allowed from read-only scripts") {
			t.Errorf("a script that writes: %v", got)
		}
	}
}

func TestErrorsOfReadsAreThoseOfThePrimary(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica")
	awaitReadable(t, b, 1)
	script(t, dial(t, f.primary.Addr()), "RPUSH l 1 → 1", "SET s x → OK")
	ours, theirs := dial(t, b.Addr()), dial(t, f.primary.Addr())
	for _, command := range []string{
		"GET l", "HGET l f", "LRANGE s 0 1", "LRANGE l a b", "GETRANGE s a 1", "EVAL_RO return(redis.call('get',KEYS[1])) 1 l",
		"EVAL_RO x 1 l", "FCALL_RO none 1 l", "EVALSHA_RO ffffffffffffffffffffffffffffffffffffffff 1 l", "OBJECT FREQ s", "GETBIT s -1",
		"BITCOUNT s 1", "GET", "ZRANGE s 0 1 LIMIT 1 1", "SINTERCARD 0 s", "XRANGE s - +",
	} {
		want := theirs.DoRaw(words(command)...)
		if got := ours.DoRaw(words(command)...); got != want {
			t.Errorf("%s: %q, and the primary says %q", command, got, want)
		}
	}
}

func TestReadFromChangesUnderLoad(t *testing.T) {
	parallel(t)
	f := startFamily(t, 2)
	b := startBerth(t, f.primary.Addr())
	o := newOwners(t, b.Addr(), anywhere())
	o.steady = true
	o.own(30)
	for _, w := range f.wires {
		w.stumble(o.crowd, 100*time.Millisecond)
	}
	c := dial(t, b.Addr())
	for range sized(4, 40) {
		for _, policy := range []string{"prefer-replica", "primary", "any", "nearest", "replica", "prefer-replica"} {
			script(t, c, "CONFIG SET read-from "+policy+" → OK", "CONFIG GET read-from → [read-from "+policy+"]")
			_, _, before := readsAt(t, b)
			o.awaitReads(200)
			if policy == "prefer-replica" {
				eventually(t, "replicas to be read", func() bool { _, _, now := readsAt(t, b); return now > before })
			}
		}
	}
	o.finish()
	if got := fmt.Sprint(c.Do("CONFIG", "SET", "read-from", "nobody")); !strings.HasPrefix(got, "ERR CONFIG SET failed") {
		t.Errorf("CONFIG SET read-from nobody: %v", got)
	}
}

func TestAReplicaThatLagsTooMuchIsNotRead(t *testing.T) {
	parallel(t)
	for _, limit := range []struct{ name, value, why string }{
		{"replica-max-lag", "1", "it lags by "},
		{"replica-max-lag-bytes", "1000", "it lacks "},
	} {
		t.Run(limit.name, func(t *testing.T) {
			f := startFamily(t, 1)
			b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica", "--"+limit.name, limit.value)
			awaitReadable(t, b, 1)
			writer, reader := dial(t, b.Addr()), dial(t, b.Addr())
			f.wires[0].hold(true)
			n := 0
			eventually(t, "the replica to lag too much", func() bool {
				n++
				writer.Do("SET", "k", fmt.Sprint(n, strings.Repeat("x", 100)))
				reader.Do("GET", "other")
				return strings.HasPrefix(readable(t, b, f.replicas[0].Addr()), limit.why)
			})
			for range 20 {
				if got := readsWhere(t, b, reader, "GET k", "GET other"); got == "replica" {
					t.Errorf("reads go to: %s", got)
				}
			}
			if got := fmt.Sprint(reader.Do("GET", "k")); !strings.HasPrefix(got, fmt.Sprint(n, "x")) {
				t.Errorf("GET k: %s", got)
			}
			script(t, writer, "CONFIG SET "+limit.name+" 0 → OK")
			eventually(t, "the replica to be read, as any lag is taken", func() bool { return readsWhere(t, b, reader, "GET k", "GET other") == "replica" })
			if got := writer.Do("GET", "k"); !strings.HasPrefix(fmt.Sprint(got), fmt.Sprint(n, "x")) {
				t.Errorf("its own write is %v", got)
			}
			script(t, writer, "CONFIG SET "+limit.name+" "+limit.value+" → OK")
			eventually(t, "the replica to lag too much", func() bool { return strings.HasPrefix(readable(t, b, f.replicas[0].Addr()), limit.why) })
			f.wires[0].hold(false)
			awaitReadable(t, b, 1)
			eventually(t, "the own write to be read from the replica", func() bool { return readsWhere(t, b, writer, "GET k") == "replica" })
		})
	}
}

func TestUsersReadFromReplicasAsThemselves(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica")
	awaitReadable(t, b, 1)
	rules := func(node *redistest.Server, user, rules string) {
		t.Helper()
		if got := node.Do(t, append([]any{"ACL", "SETUSER", user}, words(rules)...)...); got != "OK" {
			t.Fatalf("ACL SETUSER: %v", got)
		}
	}
	for _, node := range []*redistest.Server{f.primary, f.replicas[0]} {
		rules(node, "both", "on >pw ~own:* +@all")
	}
	rules(f.primary, "alone", "on >pw ~own:* +@all")
	enter := func(user string) *redistest.Conn {
		c := dial(t, b.Addr())
		if got := c.Do("AUTH", user, "pw"); got != "OK" {
			t.Fatalf("AUTH %s: %v", user, got)
		}
		return c
	}
	both, alone := enter("both"), enter("alone")
	eventually(t, "a user of all nodes to read from the replica", func() bool {
		return readsWhere(t, b, both, "GET own:k", "STRLEN own:k") == "replica"
	})
	for range 50 {
		for _, c := range []*redistest.Conn{both, alone} {
			script(t, c, "GET own:k → <nil>", "STRLEN own:k → 0")
			if got := c.Do("GET", "foreign"); got != redistest.Error(b.noKey()) {
				t.Errorf("GET foreign: %v", got)
			}
		}
	}
	f.primary.Do(t, "SET", "own:k", "v")
	f.awaitStep(t, f.replicas[0])
	eventually(t, "the replica to have it", func() bool { return f.replicas[0].Do(t, "GET", "own:k") == "v" })
	script(t, both, "GET own:k → v")
	script(t, alone, "GET own:k → v")
	f.replicas[0].Do(t, "ACL", "DELUSER", "both") // on the replica alone
	for range 50 {
		script(t, both, "GET own:k → v")
	}
	for user, c := range map[string]*redistest.Conn{"both": both, "alone": alone} {
		f.primary.Do(t, "ACL", "DELUSER", user)
		eventually(t, "the client of a user that is gone to be closed", func() bool {
			_, err := c.TryDo("GET", "own:k")
			return err != nil
		})
	}
}

func TestDatabasesAreReadFromReplicas(t *testing.T) {
	parallel(t)
	f := startFamily(t, 1)
	b := startBerth(t, f.primary.Addr(), "--read-from", "prefer-replica")
	var clients []*redistest.Conn
	for db := range 3 {
		c := dial(t, b.Addr())
		script(t, c, fmt.Sprintf("SELECT %d → OK", db), fmt.Sprintf("SET k %d → OK", db))
		clients = append(clients, c)
	}
	for db, c := range clients {
		want := fmt.Sprint(db)
		eventually(t, "reads to go to the replica", func() bool { return readsWhere(t, b, c, "GET k") == "replica" })
		for range 20 {
			if got := c.Do("GET", "k"); got != want {
				t.Errorf("database %d: %v", db, got)
			}
		}
		next := (db + 1) % 3
		got := pipelined(c, "GET k", fmt.Sprint("SELECT ", next), "GET k", "SET own {db}", "GET own", fmt.Sprint("SELECT ", db), "GET k", "RESET", "GET k")
		if want := fmt.Sprintf("[%d OK %d OK {db} OK %d RESET 0]", db, next, db); fmt.Sprint(got) != want {
			t.Errorf("%v instead of %s", got, want)
		}
	}
}
