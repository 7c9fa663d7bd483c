package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
)

// checker is a client that owns its keys, and knows what it must be answered.
type checker struct {
	*rand.Rand
	c           *conversations
	conn, other *redistest.Conn // of the same user; other speaks RESP2
	resp3       bool            // conn speaks RESP3
	user        speakerUser
	prefix      string // of its keys and channels, which begin with a hash tag
	round       int
	values      map[string]string // what the keys hold
	out         []byte
	asked       []string // requests that are not sent yet
	wanted      []string // replies to them
}

// checkerKinds are what checkers do, a round at a time.
var checkerKinds = []func(k *checker) error{
	(*checker).plain, (*checker).plain, (*checker).plain, (*checker).plain, (*checker).transact, (*checker).transact,
	(*checker).block, (*checker).block, (*checker).subscribe, (*checker).subscribe, (*checker).track, (*checker).script,
}

// check runs a checker until the crowd stops. It connects anew from time to time.
func (c *conversations) check(i uint64, round func(k *checker) error) {
	k := &checker{Rand: rand.New(rand.NewPCG(soakSeed, 1<<40+i)), c: c}
	k.begin(i)
	for !c.stopped() {
		switch err := k.converseFor(1+k.IntN(100), round); {
		case errors.Is(err, errAskedInVain):
			c.again.Add(1)
			k.begin(i)
		case errors.Is(err, errNoMore):
			return
		case err != nil:
			c.lost.add("checker %d (%s) round %d: %v", i, k.user.name, k.round, err)
			return
		}
	}
}

// converseFor connects, does some rounds and leaves.
func (k *checker) converseFor(rounds int, round func(k *checker) error) error {
	for _, conn := range []**redistest.Conn{&k.conn, &k.other} {
		c, err := k.c.dial()
		if err != nil {
			return err
		}
		defer c.Close()
		*conn = c
	}
	err := k.login()
	for ; err == nil && rounds > 0 && !k.c.stopped(); rounds-- {
		k.round++
		err = round(k)
	}
	return err
}

// dial connects a client whose memory does not stay until the end of the test. No reply for two
// minutes is a lost one.
func (c *conversations) dial() (*redistest.Conn, error) {
	conn, err := redistest.TryDial(new(packageTB), c.addr)
	if err == nil {
		conn.SetTimeout(2 * time.Minute)
	}
	return conn, err
}

// errAskedInVain ends a conversation: no node has said in time whether the user may run the
// command, which was not executed. It is no fault of berth's when nodes have little of a busy
// machine.
var errAskedInVain = errors.New("asked in vain")

// begin gives the checker keys that nothing was done to.
func (k *checker) begin(i uint64) {
	k.user, k.prefix = fortUser, unique("fort:{checker")+"}:"
	if i%4 > 0 {
		k.user, k.prefix = lastingUsers[i%4-1], unique("^{checker")+"}:"
	}
	k.values, k.out, k.asked, k.wanted = map[string]string{}, nil, nil, nil
}

// login makes both connections the checker's user.
func (k *checker) login() error {
	k.resp3 = k.IntN(2) == 0
	resp, password := "2", k.user.password
	if k.resp3 {
		resp = "3"
	}
	if password == "" {
		password = fmt.Sprint(k.Uint32())
	}
	login := []string{"HELLO", resp, "AUTH", k.user.name, password}
	got, err := k.conn.TryDo(login)
	if err != nil || !strings.Contains(fmt.Sprint(got), "server") {
		return fmt.Errorf("%v: %v, %v", login, got, err)
	}
	return k.tell(k.other, "OK", "AUTH", k.user.name, password)
}

// tell does one request and compares the reply.
func (k *checker) tell(conn *redistest.Conn, want string, args ...any) error {
	if err := conn.TrySend(args...); err != nil {
		return err
	}
	return k.hear(conn, want, args...)
}

// hear takes one reply and compares it. "#" is any number.
func (k *checker) hear(conn *redistest.Conn, want string, args ...any) error {
	got, err := conn.TryRecv()
	if err != nil {
		return fmt.Errorf("%.200q: %w", args, err)
	}
	k.c.checked.Add(1)
	text := fmt.Sprint(got)
	_, number := got.(int64)
	switch {
	case text == want, want == "#" && number:
		return nil
	case text == "[invalidate <nil>]": // a client that tracks over a Cluster may be told to forget all
		return k.hear(conn, want, args...)
	case strings.Contains(text, "TRYAGAIN berth: it cannot be asked"): // also as the reason of an EXECABORT
		return errAskedInVain
	}
	k.c.wrong.add("checker %s (%s) round %d: %.200q got %.200q (%d bytes), want %.200q (%d bytes)", k.prefix, k.user.name, k.round, args,
		text, len(text), want, len(want))
	return errNoMore // what follows would be wrong for the same reason
}

// ask adds a request to a pipeline.
func (k *checker) ask(want string, args ...string) {
	k.out = codec.AppendCommandString(k.out, args...)
	k.asked, k.wanted = append(k.asked, strings.Join(args[:min(len(args), 2)], " ")), append(k.wanted, want)
}

// converse sends the pipeline, often in pieces, and compares the replies.
func (k *checker) converse() error {
	out, asked, wanted := k.out, k.asked, k.wanted
	k.out, k.asked, k.wanted = nil, nil, nil
	sent := make(chan error, 1)
	cut := len(out)
	if k.IntN(2) == 0 {
		cut = k.IntN(len(out))
	}
	go func() {
		if err := k.conn.TryWrite(out[:cut]); err != nil {
			sent <- err
			return
		}
		sent <- k.conn.TryWrite(out[cut:])
	}()
	for i, want := range wanted {
		if err := k.hear(k.conn, want, asked[i]); err != nil {
			k.conn.Close()
			<-sent
			return err
		}
	}
	return <-sent
}

func (k *checker) key() string { return fmt.Sprint(k.prefix, string(rune('a'+k.IntN(6)))) }

// value names the key and the round, all over.
func (k *checker) value(key string) string {
	word := fmt.Sprintf("%s=%d;", key, k.round)
	switch n := k.IntN(200); {
	case n < 1:
		return strings.Repeat(word, k.IntN(2<<20)/len(word))
	case n < 10:
		return strings.Repeat(word, k.IntN(200<<10)/len(word))
	}
	return strings.Repeat(word, k.IntN(20))
}

func (k *checker) held(key string) string {
	if v, ok := k.values[key]; ok {
		return v
	}
	return "<nil>"
}

// set asks for a SET.
func (k *checker) set(want string) {
	key := k.key()
	k.values[key] = k.value(key)
	k.ask(want, "SET", key, k.values[key])
}

// plain is a pipeline of ordinary commands.
func (k *checker) plain() error {
	for range 1 + k.IntN(40) {
		key, second := k.key(), k.key()
		switch k.IntN(8) {
		case 0:
			k.set("OK")
		case 1:
			k.ask(fmt.Sprintf("[%s %s]", k.held(key), k.held(second)), "MGET", key, second)
		case 2:
			n := map[bool]string{true: "1", false: "0"}
			_, there := k.values[key]
			k.ask(n[there], "EXISTS", key)
			k.ask(n[there], "DEL", key)
			delete(k.values, key)
		case 3:
			k.values[key] += "+"
			k.ask(fmt.Sprint(len(k.values[key])), "APPEND", key, "+")
		case 4:
			k.ask(fmt.Sprint(k.round, key), "ECHO", fmt.Sprint(k.round, key))
		case 5:
			k.values[key], k.values[second] = k.value(key), k.value(second)
			k.ask("OK", "MSET", key, k.values[key], second, k.values[second])
		default:
			k.ask(k.held(key), "GET", key)
		}
	}
	return k.converse()
}

// transact is a transaction, of which the other connection may change a key.
func (k *checker) transact() error {
	key := k.key()
	watch, changed := k.IntN(3) > 0, k.IntN(3) == 0
	if watch {
		if err := k.tell(k.conn, "OK", "WATCH", key, k.key()); err != nil {
			return err
		}
		if err := k.tell(k.conn, k.held(key), "GET", key); err != nil {
			return err
		}
	}
	if changed {
		k.values[key] = k.value(key)
		if err := k.tell(k.other, "OK", "SET", key, k.values[key]); err != nil {
			return err
		}
	}
	k.ask("OK", "MULTI")
	value := k.value(key)
	k.ask("QUEUED", "SET", key, value)
	k.ask("QUEUED", "GET", key)
	switch {
	case k.IntN(5) == 0:
		k.ask("OK", "DISCARD")
	case watch && changed:
		k.ask("<nil>", "EXEC")
	default:
		k.values[key] = value
		k.ask("[OK "+value+"]", "EXEC")
	}
	k.ask(k.held(key), "GET", key)
	return k.converse()
}

// block waits for what the other connection pushes.
func (k *checker) block() error {
	list, to, value := k.prefix+"list", k.prefix+"to", fmt.Sprint(k.prefix, k.round)
	waits := [][]any{{"BLPOP", list, k.prefix + "none", "0"}, {"BLMOVE", list, to, "LEFT", "RIGHT", "0"}, {"BLMPOP", "0", "2", k.prefix + "none", list, "RIGHT"}}
	wants := []string{"[" + list + " " + value + "]", value, "[" + list + " [" + value + "]]"}
	n := k.IntN(len(waits))
	if k.IntN(4) == 0 {
		if err := k.tell(k.conn, "<nil>", "BLPOP", list, "0.01"); err != nil {
			return err
		}
	}
	if err := k.conn.TrySend(waits[n]...); err != nil {
		return err
	}
	if err := k.tell(k.other, "1", "RPUSH", list, value); err != nil {
		return err
	}
	if err := k.hear(k.conn, wants[n], waits[n]...); err != nil {
		return err
	}
	if n == 1 {
		k.ask(value, "LPOP", to)
	}
	k.ask("0", "LLEN", list)
	return k.converse()
}

// subscribe hears what the other connection publishes: all of it, once, in order.
func (k *checker) subscribe() error {
	channel, shard := k.prefix+"news", k.prefix+"shard"
	k.ask("[subscribe "+channel+" 1]", "SUBSCRIBE", channel)
	k.ask("[ssubscribe "+shard+" 1]", "SSUBSCRIBE", shard)
	if err := k.converse(); err != nil {
		return err
	}
	for n := range 1 + k.IntN(20) {
		for kind, to := range map[string]string{"message": channel, "smessage": shard} {
			text, publish := fmt.Sprint(k.prefix, k.round, n), map[string]string{"message": "PUBLISH", "smessage": "SPUBLISH"}[kind]
			if err := k.tell(k.other, "#", publish, to, text); err != nil {
				return err
			}
			if err := k.hear(k.conn, fmt.Sprintf("[%s %s %s]", kind, to, text), publish, to, text); err != nil {
				return err
			}
		}
	}
	k.ask("[unsubscribe "+channel+" 0]", "UNSUBSCRIBE", channel)
	k.ask("[sunsubscribe "+shard+" 0]", "SUNSUBSCRIBE", shard)
	return k.converse()
}

// track is told of each key that it has read and the other connection changes.
func (k *checker) track() error {
	if !k.resp3 {
		return k.plain()
	}
	if err := k.tell(k.conn, "OK", "CLIENT", "TRACKING", "ON"); err != nil {
		return err
	}
	for range 1 + k.IntN(5) {
		key := k.key()
		if err := k.tell(k.conn, k.held(key), "GET", key); err != nil {
			return err
		}
		k.values[key] = k.value(key)
		if err := k.tell(k.other, "OK", "SET", key, k.values[key]); err != nil {
			return err
		}
		if err := k.hear(k.conn, "[invalidate ["+key+"]]", "SET", key); err != nil {
			return err
		}
	}
	return k.tell(k.conn, "OK", "CLIENT", "TRACKING", "OFF")
}

// script is answered in the words of a node, and in all kinds of values.
func (k *checker) script() error {
	key := k.key()
	for range 1 + k.IntN(5) {
		word := fmt.Sprintf("%s %d 127.0.0.1:1", []string{"MOVED", "ASK", "NOAUTH", "UNBLOCKED", "READONLY", "LOADING"}[k.IntN(6)], k.round)
		switch k.IntN(4) {
		case 0:
			k.ask(word, "EVAL", "return {err=ARGV[1]}", "1", key, word)
		case 1:
			k.ask(word, "EVAL", "return {err=ARGV[1]}", "0", word)
		case 2:
			k.ask("[[[[[1 "+word+"]]]] <nil> "+word+"]", "EVAL", "return {{{{{1,ARGV[1]}}}},false,{err=ARGV[1]}}", "0", word)
		case 3:
			k.ask("123456789012345678901234567890", "EVAL", "redis.setresp(3) return {big_number='123456789012345678901234567890'}", "1", key)
		}
		k.set("OK")
		k.ask(k.held(key), "GET", key)
	}
	return k.converse()
}

// administer rules over the speakers until the crowd stops: it kills, unblocks, changes users and
// settings.
func (c *conversations) administer() {
	r := rand.New(rand.NewPCG(soakSeed, 1<<50))
	conn, err := redistest.TryDial(new(packageTB), c.addr)
	if err == nil {
		_, err = conn.TryDo("AUTH", rootUser.name, rootUser.password)
	}
	for err == nil && !c.stopped() {
		c.ruled.Add(1)
		var got any
		words := c.order(r, conn)
		if got, err = conn.TryDo(words); err != nil {
			break
		}
		if text, failed := got.(redistest.Error); failed && !strings.HasPrefix(string(text), "ERR No such client") &&
			!strings.HasPrefix(string(text), "TRYAGAIN berth: it cannot be asked") {
			c.wrong.add("administrator: %q: %s", words, text)
		}
		c.pause(time.Duration(r.IntN(10)) * time.Millisecond)
	}
	if err != nil {
		c.lost.add("administrator: %v", err)
		return
	}
	for _, u := range fleetingUsers { // as they were, for the next run
		if got, err := conn.TryDo(u.setuser()); err != nil || got != "OK" {
			c.wrong.add("administrator: %v: %v, %v", u, got, err)
		}
	}
	conn.Close()
}

// order is a command of the administrator.
func (c *conversations) order(r *rand.Rand, conn *redistest.Conn) []string {
	fluid, phoenix := fleetingUsers[0], fleetingUsers[1]
	id := "1"
	if n := r.IntN(16); n < 4 {
		list, _ := conn.TryDo("CLIENT", "LIST")
		var speaking []string
		for _, line := range strings.Split(fmt.Sprint(list), "\n") {
			if strings.Contains(line, " name=^") {
				speaking = append(speaking, strings.TrimPrefix(strings.Fields(line)[0], "id="))
			}
		}
		if len(speaking) > 0 {
			id = speaking[r.IntN(len(speaking))]
		}
		return [][]string{{"CLIENT", "KILL", "ID", id}, {"CLIENT", "UNBLOCK", id}, {"CLIENT", "UNBLOCK", id, "ERROR"}, {"CLIENT", "KILL", "ID", id}}[n]
	}
	orders := [][]string{
		{"CONFIG", "GET", "*"}, {"INFO"}, {"CLIENT", "PAUSE", "5", "WRITE"}, {"SCRIPT", "FLUSH"}, {"PROXY", "CLIENTS"}, {"PUBLISH", sharedNews, sharedMark},
		{"RPUSH", sharedList, sharedMark, sharedMark}, {"ACL", "DELUSER", phoenix.name}, phoenix.setuser(), phoenix.setuser(), fluid.setuser(),
		{"ACL", "SETUSER", fluid.name, "-@all", "+get", "+auth"}, {"ACL", "SETUSER", fluid.name, "resetpass", ">" + fluid.password},
		{"ACL", "SETUSER", fluid.name, "resetkeys", "~nothing"}, {"ACL", "SETUSER", fluid.name, "off"},
		{"CONFIG", "SET", "private_conn_pool_max_idle_per_db", fmt.Sprint(r.IntN(5) * 100)}, {"CONFIG", "SET", "blocking-lanes-max", fmt.Sprint(1 + r.IntN(4))},
	}
	return orders[r.IntN(len(orders))]
}
