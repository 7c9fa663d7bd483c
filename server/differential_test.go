package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// The differential tests send the same bytes to a redis-server and to berth in front of another one, and compare what comes
// back and whether the connection is left open.
//
//	BERTH_DIFF_INPUTS  how many inputs each test sends (150); scripts/check --nightly: 5000
//	BERTH_DIFF_SEED    from which they are made (1)
//	BERTH_DIFF_FIRST   the number of the first session (0): to look at one again
//	BERTH_DIFF_SHOW    yes: how often each explained difference was met
const (
	diffInputs = 150
	diffSeed   = 1
	diffShown  = 12 // after so many unexplained differences of different kinds a run ends
)

func envInt(name string, def int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return def
}

// A differ has the two that are compared.
type differ struct {
	t        testing.TB
	direct   string         // address of the redis-server
	berth    *berthServer   // in front of other servers of the same kind
	controls []*diffControl // to all servers, for the state each session starts from
	sharded  bool           // berth's has several shards
	fixtures []byte
	mark     diffMark
	explains []difference
	met      map[string]int // explained differences, by reason
	compared int            // replies
	input    string         // that was sent last
}

// diffControl is a connection to one of the servers, past berth.
type diffControl struct {
	conn  *redistest.Conn
	holds bool // the fixtures' keys
}

// diffEnd is how a connection stands behind an input.
type diffEnd string

const (
	diffOpen   diffEnd = "open"
	diffClosed diffEnd = "closed"
	diffWaits  diffEnd = "open, waiting for more"
	diffDead   diffEnd = "silent" // no answer in time
)

// diffAnswer is what came back for one input.
type diffAnswer struct {
	replies [][]byte
	junk    []byte // bytes behind them that are no reply
	end     diffEnd
}

func (a diffAnswer) String() string {
	var b strings.Builder
	for _, r := range a.replies {
		fmt.Fprintf(&b, "    %.600q\n", r)
	}
	if len(a.junk) > 0 {
		fmt.Fprintf(&b, "    no reply: %.200q\n", a.junk)
	}
	return b.String() + "    " + string(a.end) + "\n"
}

// diffConn is one side of a client.
type diffConn struct {
	net.Conn
	buf     []byte
	scanner codec.ReplyScanner
	heard   [][]byte // messages of channels that have not been compared
	mark    diffMark
}

// diffMark is a command whose answer marks the end of all answers before it.
type diffMark struct{ asks, reply string }

func dialDiff(addr string, mark diffMark) (*diffConn, error) {
	nc, err := net.DialTimeout("tcp", addr, 5*time.Second)
	return &diffConn{Conn: nc, mark: mark}, err
}

// fill reads more bytes; it returns how the connection ended, or "".
func (c *diffConn) fill(within time.Duration) diffEnd {
	_ = c.SetReadDeadline(time.Now().Add(within))
	var chunk [16 << 10]byte
	n, err := c.Read(chunk[:])
	c.buf = append(c.buf, chunk[:n]...)
	var netErr net.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &netErr) && netErr.Timeout():
		return diffDead
	}
	return diffClosed
}

// next takes one reply out of what was read, nil when there is no whole one. Messages of channels come when they come,
// and are set aside.
func (c *diffConn) next() (reply []byte, ok bool) {
	for {
		n, err := c.scanner.Scan(c.buf)
		if err != nil {
			return nil, false
		}
		reply, c.buf = slices.Clone(c.buf[:n]), c.buf[n:]
		if !isMessage(reply) {
			return reply, true
		}
		c.heard = append(c.heard, reply)
	}
}

// answers reads replies up to the sentinel's, or the end.
func (c *diffConn) answers(within time.Duration) (a diffAnswer) {
	for {
		reply, ok := c.next()
		switch {
		case !ok:
			a.junk, a.end = slices.Clone(c.buf), diffDead
			return a
		case string(reply) == c.mark.reply:
			a.end = diffOpen
			return a
		case len(reply) > 0:
			a.replies = append(a.replies, reply)
			continue
		}
		if end := c.fill(within); end != "" {
			a.junk, a.end = slices.Clone(c.buf), end
			return a
		}
	}
}

// rest reads count replies, sees that no more follow and ends the sending side: the input was not complete, and what the
// sentinel would say is not to be known.
func (c *diffConn) rest(count int, within time.Duration) (a diffAnswer) {
	take := func() (ok bool) {
		for {
			reply, ok := c.next()
			if !ok || len(reply) == 0 {
				return ok
			}
			a.replies = append(a.replies, reply)
		}
	}
	for take() && len(a.replies) < count {
		if end := c.fill(within); end != "" {
			a.junk, a.end = slices.Clone(c.buf), end
			return a
		}
	}
	_ = c.Conn.(*net.TCPConn).CloseWrite()
	for take() {
		if end := c.fill(within); end != "" {
			a.junk, a.end = slices.Clone(c.buf), diffWaits
			if end == diffDead {
				a.end = diffDead
			}
			return a
		}
	}
	a.junk, a.end = slices.Clone(c.buf), diffDead
	return a
}

// diffClient is one client: the same to a redis-server and to berth.
type diffClient struct {
	direct, berth *diffConn
	seen          *clientReads
	view          clientView
}

func (d *differ) client() (*diffClient, error) {
	direct, err := dialDiff(d.direct, d.mark)
	if err != nil {
		return nil, err
	}
	berth, err := dialDiff(d.berth.Addr(), d.mark)
	if err != nil {
		direct.Close()
		return nil, err
	}
	seen := newClientReads()
	d.berth.reads.Store(berth.LocalAddr().String(), seen)
	return &diffClient{direct: direct, berth: berth, seen: seen}, nil
}

// send writes an input to both. Of one input in three, which its own bytes choose, berth reads two pieces.
func (c *diffClient) send(in string) {
	_, _ = io.WriteString(c.direct, in)
	cut := crc32.ChecksumIEEE([]byte(in))
	if cut%3 == 0 {
		first := in[:cut/3%uint32(len(in))]
		due := c.seen.bytes.Load() + int64(len(first))
		_, _ = io.WriteString(c.berth, first)
		c.seen.await(due, diffPatience)
		in = in[len(first):]
	}
	_, _ = io.WriteString(c.berth, in)
}

func (c *diffClient) close() {
	if c != nil {
		c.direct.Close()
		c.berth.Close()
	}
}

const diffPatience = 5 * time.Second

// hear compares the messages that a subscriber has got, waiting for those that berth still owes it.
func (c *diffClient) hear() (why string) {
	for len(c.berth.heard) < len(c.direct.heard) {
		if reply, ok := c.berth.next(); !ok || len(reply) > 0 {
			return fmt.Sprintf("%q among messages", reply)
		}
		if len(c.berth.heard) < len(c.direct.heard) && c.berth.fill(diffPatience) != "" {
			return fmt.Sprintf("missing message %q", c.direct.heard[len(c.berth.heard)])
		}
	}
	// A message that several patterns match comes by the order of a hash table.
	want, got := c.direct.heard, c.berth.heard[:len(c.direct.heard)]
	c.direct.heard, c.berth.heard = nil, c.berth.heard[len(got):]
	slices.SortStableFunc(want, byPattern)
	slices.SortStableFunc(got, byPattern)
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			return fmt.Sprintf("message %q instead of %q", got[i], want[i])
		}
	}
	return ""
}

// exchange sends an input to both and takes what they answer.
func (c *diffClient) exchange(in string) (direct, berth diffAnswer, requests [][]string) {
	requests, partly, _ := requestsIn(in)
	patience := diffPatience
	if stricter(in) {
		patience = 50 * time.Millisecond // Redis takes what follows for something else, perhaps for the beginning of more
	}
	if strings.Contains(strings.ToLower(in), "reply") && !partly {
		// Whoever was told to be silent is asked to speak again, for the sentinel to be heard.
		speak := []string{"CLIENT", "REPLY", "ON"}
		said := strings.ToLower(in)
		if c.view.multi || len(c.view.subscriptions) > 0 || strings.Contains(said, "multi") || strings.Contains(said, "subscribe") {
			speak = []string{"RESET"} // anything else would be queued, or refused
		}
		in += string(redistest.Command(speak))
		requests = append(requests, speak)
	}
	if !partly {
		in += c.direct.mark.asks
	}
	c.send(in)
	if partly {
		// Who still waits for a reply when the sending side is closed would get none.
		direct = c.direct.rest(c.view.owed(requests), diffPatience)
		berth = c.berth.rest(len(direct.replies), diffPatience)
	} else {
		direct = c.direct.answers(patience)
		berth = c.berth.answers(diffPatience)
	}
	return direct, berth, requests
}

// reset brings all servers into the state each session starts from.
func (d *differ) reset(s diffSession) {
	everything := "CLIENT UNPAUSE\r\nFLUSHALL\r\n"
	text := ""
	for _, w := range s {
		text += strings.ToLower(w.bytes())
	}
	for word, command := range map[string]string{
		"script": "SCRIPT FLUSH\r\n", "eval": "SCRIPT FLUSH\r\n", "function": "FUNCTION FLUSH\r\n", "fcall": "FUNCTION FLUSH\r\n",
		"acl": "ACL LOG RESET\r\n",
	} {
		if strings.Contains(text, word) {
			everything += command
		}
	}
	for _, c := range d.controls {
		if strings.Contains(text, "acl") {
			for _, user := range c.conn.Do("ACL", "USERS").([]any) {
				if user != "default" && user != "guest" {
					c.conn.Do("ACL", "DELUSER", user)
				}
			}
		}
		b := []byte(everything)
		if c.holds {
			b = append(b, d.fixtures...)
		}
		c.conn.Write(append(b, sentinel...))
	}
	for _, c := range d.controls {
		c.conn.ReadUntil(sentinelReply)
	}
	if strings.Contains(everything, "SCRIPT FLUSH") { // of which berth has not heard
		d.berth.srv.scripts.forget()
	}
}

// run sends a session to both and returns what differs without an explanation, and how many inputs it has sent.
func (d *differ) run(s diffSession) (found *diffFinding, inputs int) {
	d.reset(s)
	clients := map[int]*diffClient{}
	defer func() {
		for _, c := range clients {
			c.close()
		}
		if slices.ContainsFunc(s, diffWrite.subscribes) { // the next session may count subscribers
			eventually(d.t, "berth to have seen its clients leave", func() bool { return d.berth.srv.clients.Load() <= bystanding })
		}
	}()
	for i, w := range s {
		c := clients[w.client]
		if c == nil {
			var err error
			if c, err = d.client(); err != nil {
				d.t.Fatalf("%v, behind %s", err, &diffFinding{session: s})
			}
			clients[w.client] = c
		}
		in := w.bytes()
		d.input = in
		direct, berth, requests := c.exchange(in)
		inputs++
		if slices.ContainsFunc(requests, crossProtocol) && direct.end == diffClosed && berth.end == diffClosed {
			d.met["Redis drops what it owes to an HTTP client"]++
			return nil, inputs
		}
		verdict := d.compare(&c.view, requests, direct, berth)
		if strings.HasPrefix(verdict.kind, "ends") && berth.end == diffClosed && stricter(in) { // it may be muted
			d.met["stricter than Redis about CR LF, and NUL in a line"]++
			return nil, inputs
		}
		if verdict.why == "" && !verdict.parted && direct.end == diffOpen {
			if why := c.hear(); why != "" {
				verdict.why, verdict.kind = why, "message"
			}
		}
		if verdict.why != "" {
			return &diffFinding{session: s[:i+1], direct: direct, berth: berth, why: verdict.why, kind: verdict.kind}, inputs
		}
		if verdict.parted || direct.end == diffDead || slices.ContainsFunc(requests, d.splits) {
			return nil, inputs // from here on they are in different states, for a reason
		}
		if direct.end != diffOpen {
			c.close()
			delete(clients, w.client)
		}
	}
	return nil, inputs
}

// splits tells whether a request is one that berth splits over a cluster, where Redis does nothing; a muted client is not told.
func (d *differ) splits(words []string) bool {
	cmd, _ := commandOf(words)
	if !d.sharded || cmd == nil || cmd.Way != router.Split {
		return false
	}
	return slices.ContainsFunc(words[1:], func(w string) bool { return router.Slot([]byte(w)) != router.Slot([]byte(words[1])) })
}

func crossProtocol(words []string) bool {
	return len(words) > 0 && router.CrossProtocol([]byte(words[0]))
}

// stricter tells whether the input is one that only berth complains about: Redis never looks at the bytes behind a CR, and
// waits for ever for the end of a line with a NUL byte in it.
func stricter(in string) bool {
	_, _, bad := requestsIn(in)
	return bad != nil && (strings.Contains(bad.Error(), "expected CR LF") || strings.Contains(in, "\x00"))
}

// byPattern sorts messages by the pattern that they came by; the others keep their order, and come first.
func byPattern(a, b []byte) int {
	pattern := func(message []byte) []byte {
		parts := bytes.SplitN(message, []byte("\r\n"), 6)
		if string(parts[2]) != "pmessage" {
			return nil
		}
		return parts[4]
	}
	return bytes.Compare(pattern(a), pattern(b))
}

// diffFinding is an unexplained difference: the answers to the last write of a session.
type diffFinding struct {
	session       diffSession
	direct, berth diffAnswer
	why           string
	kind          string // differences of one kind are shown once
}

// shrink removes from the session what the difference does not need.
func (d *differ) shrink(f *diffFinding) *diffFinding {
	deadline := time.Now().Add(20 * time.Second)
	for again := true; again; {
		again = false
		for _, smaller := range f.session.smaller() {
			if time.Now().After(deadline) {
				return f
			}
			if g, _ := d.run(smaller); g != nil && g.kind == f.kind {
				f, again = g, true
				break
			}
		}
	}
	return f
}

// smaller are sessions with less in them: without one write, without one piece, without one word.
func (s diffSession) smaller() (all []diffSession) {
	with := func(i int, pieces []string) diffSession {
		copied := slices.Clone(s)
		copied[i].pieces = pieces
		return copied
	}
	for i := range s {
		if len(s) > 1 {
			all = append(all, slices.Delete(slices.Clone(s), i, i+1))
		}
	}
	for i, w := range s {
		for k := range w.pieces {
			if len(w.pieces) > 1 {
				all = append(all, with(i, slices.Delete(slices.Clone(w.pieces), k, k+1)))
			}
		}
	}
	for i, w := range s {
		for k, p := range w.pieces {
			requests, partly, _ := requestsIn(p)
			if partly || len(requests) != 1 || requests[0] == nil {
				continue
			}
			for n := len(requests[0]) - 1; n > 0; n-- {
				words := slices.Delete(slices.Clone(requests[0]), n, n+1)
				if !harmlessWords(words) {
					continue
				}
				pieces := slices.Clone(w.pieces)
				pieces[k] = string(redistest.Command(words))
				all = append(all, with(i, pieces))
			}
		}
	}
	return all
}

// String writes a finding in a form that can be pasted: into diffRegressions, or into a shell.
func (f *diffFinding) String() string {
	var b strings.Builder
	b.WriteString(f.why + "\n")
	for _, w := range f.session {
		fmt.Fprintf(&b, "  {%d, []string{", w.client)
		for i, p := range w.pieces {
			if i > 0 {
				b.WriteString(", ")
			}
			if len(p) > 2000 {
				fmt.Fprintf(&b, "%.200q /* %d bytes */", p, len(p))
			} else {
				fmt.Fprintf(&b, "%q", p)
			}
		}
		b.WriteString("}},\n")
	}
	return b.String() + "  Redis:\n" + f.direct.String() + "  berth:\n" + f.berth.String()
}

// hunt sends what differed once, then inputs until the number is reached, and reports what differs.
func (d *differ) hunt(g *inputMaker, known []diffSession) {
	d.t.Helper()
	for _, s := range known {
		if f, _ := d.run(s); f != nil {
			d.t.Errorf("known once: %s", f)
		}
	}
	inputs, seed, first := envInt("BERTH_DIFF_INPUTS", diffInputs), uint64(envInt("BERTH_DIFF_SEED", diffSeed)), envInt("BERTH_DIFF_FIRST", 0)
	d.met = map[string]int{}
	seen := map[string]int{}
	sent, unexplained, n := 0, 0, first
	for ; sent < inputs && len(seen) < diffShown; n++ {
		f, k := d.run(g.session(seed, n))
		sent += k
		if f == nil {
			continue
		}
		unexplained++
		if seen[f.kind]++; seen[f.kind] > 1 {
			continue
		}
		d.t.Errorf("session %d of seed %d: %s", n, seed, d.shrink(f))
	}
	d.t.Logf("%d inputs in sessions %d to %d of seed %d, %d replies compared, %d unexplained differences of %d kinds, %d explained ones",
		sent, first, n-1, seed, d.compared, unexplained, len(seen), total(d.met))
	if os.Getenv("BERTH_DIFF_SHOW") != "" {
		for _, why := range sortedKeys(d.met) {
			d.t.Logf("%6d  %s", d.met[why], why)
		}
	}
}

func total(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

func sortedKeys(m map[string]int) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// control connects to a server past berth and makes the users of valueClasses.
func (d *differ) control(addr string, holds bool) {
	c := dial(d.t, addr)
	c.Do("AUTH", diffPassword) // where there is none that is an error, and does not matter
	for _, user := range [][]any{
		{"ACL", "SETUSER", "guest", "on", ">guestpw", "+@all", "~*", "&*"},
	} {
		if got := c.Do(user...); got != "OK" {
			d.t.Fatalf("%v: %v", user, got)
		}
	}
	d.controls = append(d.controls, &diffControl{c, holds})
}

func newDiffer(t testing.TB, direct string, b *berthServer, prefix string, explains []difference) *differ {
	d := &differ{t: t, direct: direct, berth: b, mark: diffMark{sentinel, sentinelReply}, explains: explains, met: map[string]int{}}
	for _, words := range fixtures(prefix) {
		d.fixtures = append(d.fixtures, redistest.Command(words)...)
	}
	return d
}

// bystanding is how many bystanders there are.
const bystanding = 3

// bystanders are clients of the same berth that know nothing of the test. Each answer they get must be the one they are
// due, and they leave no key that an input could see.
func bystanders(t testing.TB, b *berthServer, key string, selectDB bool) (stop func()) {
	var wg sync.WaitGroup
	var done atomic.Bool
	var rounds atomic.Int64
	for i := range bystanding {
		c := dial(t, b.Addr())
		c.Do("AUTH", diffPassword)
		if selectDB {
			c.Do("SELECT", "9")
		}
		wg.Go(func() {
			pace := time.NewTicker(2 * time.Millisecond)
			defer pace.Stop()
			for n := 0; !done.Load(); n++ {
				<-pace.C
				if err := bystand(c, fmt.Sprintf("%sby%d", key, i), n); err != nil {
					t.Errorf("bystander %d, round %d: %v", i, n, err)
					return
				}
				rounds.Add(1)
			}
		})
	}
	return func() {
		done.Store(true)
		wg.Wait()
		t.Logf("bystanders: %d rounds of 8 commands without an error", rounds.Load())
	}
}

// bystand makes one round of requests and checks the answers.
func bystand(c *redistest.Conn, key string, n int) error {
	token := fmt.Sprintf("%s-%d", key, n)
	var in []byte
	for _, words := range [][]string{
		{"MULTI"}, {"SET", key, token}, {"GETDEL", key}, {"EXEC"}, {"ECHO", token}, {"BLPOP", key + "l", "0.001"}, {"GET", key}, {"WATCH", key},
	} {
		in = append(in, redistest.Command(words)...)
	}
	if err := c.TryWrite(in); err != nil {
		return err
	}
	for i, want := range []string{"OK", "QUEUED", "QUEUED", "[OK " + token + "]", token, "<nil>", "<nil>", "OK"} {
		got, err := c.TryRecv()
		if err != nil {
			return err
		}
		if fmt.Sprint(got) != want {
			return fmt.Errorf("answer %d is %v, not %s", i, got, want)
		}
	}
	return nil
}

// quickly lets a redis-server that has nothing else to do look more often for timeouts of blocked clients.
var quickly = []string{"--hz", "100", "--dynamic-hz", "no"}

// differOverOne compares a server with berth over another one.
func differOverOne(t *testing.T) *differ {
	direct, behind := redistest.Start(t, quickly...), redistest.Start(t, quickly...)
	b := startBerth(t, behind.Addr())
	d := newDiffer(t, direct.Addr(), b, "k:", b.differences())
	d.control(direct.Addr(), true)
	d.control(behind.Addr(), true)
	return d
}

func TestBerthAnswersAsRedis(t *testing.T) {
	parallel(t)
	d := differOverOne(t)
	defer bystanders(t, d.berth, "", true)()
	d.hunt(newInputMaker("k:", false), diffRegressions)
}

// diffPassword is one of the grammar's.
const diffPassword = "secret"

func TestBerthAnswersClientsWithoutAPasswordAsRedis(t *testing.T) {
	parallel(t)
	asking := slices.Concat(quickly, []string{"--requirepass", diffPassword})
	direct, behind := redistest.Start(t, asking...), redistest.Start(t, asking...)
	b := startBerth(t, "redis://:"+diffPassword+"@"+behind.Addr())
	d := newDiffer(t, direct.Addr(), b, "k:", slices.Concat(passwordDifferences, b.differences()))
	if b.srv.vetsFirst() { // a stranger is not told of the sentinel
		d.mark = diffMark{"*2\r\n$5\r\nRESET\r\n$8\r\nsentinel\r\n", "-ERR wrong number of arguments for 'reset' command\r\n"}
	}
	d.control(direct.Addr(), true)
	d.control(behind.Addr(), true)
	defer bystanders(t, b, "", true)()
	g := newInputMaker("k:", false)
	g.first = "AUTH " + diffPassword + "\r\n"
	d.hunt(g, nil)
}

func TestBerthAnswersSubscribersAsRedis(t *testing.T) {
	parallel(t)
	direct, behind := redistest.Start(t, quickly...), redistest.Start(t, quickly...)
	b := startBerth(t, behind.Addr())
	d := newDiffer(t, direct.Addr(), b, "k:", slices.Concat(channelDifferences, b.differences()))
	d.control(direct.Addr(), true)
	d.control(behind.Addr(), true)
	defer bystanders(t, b, "", true)()
	d.hunt(newInputMaker("k:", true), nil)
}

// diffTag is in all keys over a Cluster.
const diffTag = "{k}"

// differOverACluster compares a Cluster of one node with berth over one of three.
func differOverACluster(t *testing.T) *differ {
	alone := redistest.StartCluster(t, 1, 0, slices.Concat(quickly, []string{"--enable-debug-command", "no"})...)
	behind := redistest.StartCluster(t, 3, 0, slices.Concat(quickly, []string{"--enable-debug-command", "no"})...)
	b := startBerth(t, clusterURL(behind))
	d := newDiffer(t, alone.Node(0).Addr(), b, diffTag, slices.Concat(clusterDifferences, b.differences()))
	d.sharded = true
	d.control(alone.Node(0).Addr(), true)
	for i := range 3 {
		d.control(behind.Node(i).Addr(), i == behind.Owner(int(slotOfTag(diffTag))))
	}
	return d
}

func TestBerthOverAClusterAnswersAsRedis(t *testing.T) {
	parallel(t)
	d := differOverACluster(t)
	defer bystanders(t, d.berth, "{by}", false)()
	d.hunt(newInputMaker(diffTag, false), clusterRegressions)
}
