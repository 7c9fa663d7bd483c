package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
)

// TestNoClientHearsAnother has random clients, speakers, do all that clients may do, well or badly, and leave.
// All that a client writes carries the client's mark: a reply with the mark of another client is
// foreign. Beside them are checkers, clients that know each reply beforehand.
//
//	SOAK_FOR=5m    lasts so long over each backend; otherwise a number of speakers come and go
//	SOAK_SEED=7    other speakers
var (
	soakFor, _ = time.ParseDuration(os.Getenv("SOAK_FOR"))
	soakSeed   = uint64(envInt("SOAK_SEED", 1))
)

// The clients' users. They may not see or touch what is others', so that marks of others in a reply
// are a fault: speakersMay forbids lists of keys and channels, and keys without a mark.
const (
	speakersMay = "resetkeys ~*^* resetchannels &* -@all +@all -@dangerous -@admin -scan -randomkey -pubsub|channels -pubsub|shardchannels" +
		" -cluster|getkeysinslot"
	readersMay = "resetkeys ~*^* resetchannels &* -@all +@read +@connection +@pubsub +@transaction +@scripting -scan -randomkey -@dangerous" +
		" -keys -pubsub|channels -pubsub|shardchannels -cluster|getkeysinslot"
	fortMay = "~fort:* &* +@all"
)

// speakerUser is a user of the nodes.
type speakerUser struct{ name, password, rule string }

// login is a command that makes a client that user. An empty password is a user who needs none.
func (u speakerUser) login(say func(n int) int) []string {
	password := u.password
	if password == "" {
		password = fmt.Sprint("any", say(1000))
	}
	if say(2) == 0 {
		return []string{"HELLO", fmt.Sprint(2 + say(2)), "AUTH", u.name, password}
	}
	return []string{"AUTH", u.name, password}
}

func (u speakerUser) setuser() []string {
	password := "nopass"
	if u.password != "" {
		password = ">" + u.password
	}
	return append([]string{"ACL", "SETUSER", u.name, "on", password}, strings.Fields(u.rule)...)
}

var (
	rootUser = speakerUser{"root", "rootpw", "~* &* +@all"}
	fortUser = speakerUser{"fort", "fortpw", fortMay} // its keys are no speaker's
	// lastingUsers stay as they are. Checkers are among them, so that they share connections with speakers.
	lastingUsers = []speakerUser{
		{"limited", "limitedpw", speakersMay}, {"open", "", speakersMay}, {"default", "", speakersMay},
	}
	reader = speakerUser{"reader", "readerpw", readersMay}
	// fleetingUsers are changed, deleted and made again while clients use them.
	fleetingUsers = []speakerUser{{"fluid", "fluidpw", speakersMay}, {"phoenix", "phoenixpw", speakersMay}}
	speakerUsers  = slices.Concat([]speakerUser{reader}, fleetingUsers, lastingUsers)
)

// conversations are all clients of one run.
type conversations struct {
	*crowd
	over     string // "standalone" or "cluster"
	foreign  findings
	wrong    findings // what a checker did not expect
	unframed findings // bytes to a speaker that are no replies
	lives    int64    // speakers that may begin, without a time
	until    time.Time
	speakers atomic.Int64 // that have begun, over all runs: the number of the last one
	begun    atomic.Int64 // in this run
	requests atomic.Int64 // of speakers
	replies  atomic.Int64 // to speakers
	heard    atomic.Int64 // bytes of them
	again    atomic.Int64 // conversations of checkers that began anew: see errAskedInVain
	checked  atomic.Int64 // replies to checkers
	ruled    atomic.Int64 // commands of the administrator
}

// next is the number of the next speaker, if there is to be one.
func (c *conversations) next() (id int64, ok bool) {
	switch {
	case c.lost.count.Load()+c.wrong.count.Load()+c.foreign.count.Load()+c.unframed.count.Load() > 20:
		return 0, false
	case !c.until.IsZero() && time.Now().After(c.until), c.until.IsZero() && c.begun.Load() >= c.lives:
		return 0, false
	}
	c.begun.Add(1)
	return c.speakers.Add(1), true
}

// run has speakers come and go beside the checkers and an administrator, and returns when all have left.
func (c *conversations) run(lives int64, lasts time.Duration) {
	c.lives, c.until = lives, time.Time{}
	if lasts > 0 {
		c.until = time.Now().Add(lasts)
	}
	c.begun.Store(0)
	c.stop = make(chan struct{})
	for i, round := range checkerKinds {
		c.done.Go(func() { c.check(uint64(i), round) })
	}
	c.done.Go(c.administer)
	var speaking sync.WaitGroup
	for range sized(16, 48) {
		speaking.Go(func() {
			for id, ok := c.next(); ok; id, ok = c.next() {
				c.live(id)
			}
		})
	}
	speaking.Wait()
	c.end()
}

// clients says of each client that is left what it waits for.
func (b *loadedBerth) clients() string {
	if b.inner == nil {
		return "of another process"
	}
	said, _ := askLoops(b.inner.srv, func(l *loop) (text string) {
		for s := l.first; s != nil; s = s.next {
			text += fmt.Sprintf("\n%T user %s pause %d side %d waiting %d queued %d stay %t assembling %t ready %t input %.200q", s.conn, s.user(), s.pause, s.side,
				s.waiting, s.queued, s.stay != nil, s.execReply != nil, s.isReady, s.in[min(s.inPos, len(s.in)):])
		}
		return text
	})
	return strings.Join(said, "")
}

// settle waits until berth has forgotten all clients, and returns the bytes that are in use.
func (c *conversations) settle(t *testing.T, b *loadedBerth) (heap int) {
	t.Helper()
	for _, gauge := range []string{"berth_clients_connected", "berth_clients_blocked", "berth_pool_waiters", "berth_lane_connections",
		"berth_client_buffer_bytes", "berth_node_requests_pending", "berth_feed_channels"} {
		if !redistest.Await(10*time.Second, func() bool { return sum(b.metrics(), gauge) == 0 }) {
			t.Fatalf("%s is %v and should be 0; clients: %s", gauge, sum(b.metrics(), gauge), b.clients())
		}
	}
	if b.inner == nil {
		return 0
	}
	if soakFor > 0 { // a pipe outlives its last request by a minute
		redistest.Eventually(t, 2*time.Minute, "idle pipes to be closed", func() bool { return sum(b.metrics(), "berth_node_connections") == 0 })
	}
	owesNothing(t, b.inner)
	eventually(t, "all leases to be back", func() bool { s := b.inner.leases(); return s.Leased+s.Waiting+s.Dialing == 0 })
	b.inner.awaitNoGroups(t)
	for range 3 { // what lay in pools of buffers goes with the second collection
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// conversationNodes starts nodes that know all users.
func conversationNodes(t *testing.T, over string) (addrs []string) {
	var nodes []*redistest.Server
	if over == "standalone" {
		nodes = append(nodes, redistest.Start(t))
	} else {
		cluster := redistest.StartCluster(t, 3, 0)
		for i := range cluster.Len() {
			nodes = append(nodes, cluster.Node(i))
		}
	}
	for _, n := range nodes {
		for _, u := range slices.Concat([]speakerUser{rootUser, fortUser}, speakerUsers) { // the last is who asks here
			if got := n.Do(t, u.setuser()); got != "OK" {
				t.Fatalf("%v: %v", u, got)
			}
		}
		addrs = append(addrs, n.Addr())
	}
	return addrs
}

func TestNoClientHearsAnother(t *testing.T) {
	for _, over := range []string{"standalone", "cluster"} {
		t.Run(over, func(t *testing.T) {
			b := startLoaded(t, "redis://"+rootUser.name+":"+rootUser.password+"@"+strings.Join(conversationNodes(t, over), ","),
				"--private_conn_idle_time_sec", "1")
			c := &conversations{crowd: newCrowd(t, b.Addr()), over: over}
			c.run(int64(sized(20, 1000)), 0)
			before, residentBefore := c.settle(t, b), residentMB(t, b)
			warm := b.metrics()
			c.run(int64(sized(25, 20000)), soakFor)
			after := c.settle(t, b)
			figure(t, "%s, seed %d: %d clients, %d requests, %d replies (%d MB), administrator's commands %d", over, soakSeed,
				c.speakers.Load(), c.requests.Load(), c.replies.Load(), c.heard.Load()>>20, c.ruled.Load())
			figure(t, "%s: foreign replies %d; replies to checkers %d, wrong %d, lost %d, begun anew %d", over, c.foreign.count.Load(), c.checked.Load(),
				c.wrong.count.Load(), c.lost.count.Load(), c.again.Load())
			c.foreign.none(t, "replies with another client's mark")
			c.unframed.none(t, "bytes that are no replies")
			c.wrong.none(t, "wrong replies")
			if c.lost.count.Load() > 0 {
				for name, n := range b.metrics() {
					if strings.HasPrefix(name, "berth_clients_closed_total") || strings.HasPrefix(name, "berth_node_pipes_passed_total") {
						t.Log(name, n)
					}
				}
			}
			c.lost.none(t, "checkers that lost their connection")
			c.memoryIsBack(t, b, before, after, residentBefore)
			if soakFor > 0 {
				eventually(t, "goroutines and descriptors as before", func() bool {
					m := b.metrics()
					return m["go_goroutines"] <= warm["go_goroutines"]+10 && m["process_open_fds"] <= warm["process_open_fds"]+10
				})
			}
		})
	}
}

// memoryIsBack fails the test if berth uses more than a fifth more than before, and some megabytes:
// of its own process what is resident, of the test's what is in use, for the rest is the clients' as well.
func (c *conversations) memoryIsBack(t *testing.T, b *loadedBerth, before, after, residentBefore int) {
	t.Helper()
	const slack = 12 // MB
	resident := residentMB(t, b)
	if b.inner == nil {
		eventually(t, "resident memory as before", func() bool {
			resident = residentMB(t, b)
			return resident <= residentBefore*6/5+slack
		})
	} else if after > before*6/5+slack<<20 {
		t.Errorf("%d KB in use, before %d KB", after>>10, before>>10)
	}
	figure(t, "%s: in use %d KB before, %d KB after; RSS %d MB before, %d MB after", c.over, before>>10, after>>10, residentBefore, resident)
}
