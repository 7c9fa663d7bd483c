package redistest

import (
	"math"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestRestartedServerKeepsItsPortAndLosesItsData(t *testing.T) {
	s := Start(t)
	if got := s.Do(t, "SET", "k", "v"); got != "OK" {
		t.Fatalf("SET: %v", got)
	}
	addr, pid := s.Addr(), s.PID()
	s.Kill()
	if c, err := TryDial(t, addr); err == nil {
		c.Close()
		t.Fatal("a killed server accepts connections")
	}
	s.Restart(t)
	if s.Addr() != addr || s.PID() == pid {
		t.Fatalf("restart: %s pid %d, was %s pid %d", s.Addr(), s.PID(), addr, pid)
	}
	if got := s.Do(t, "GET", "k"); got != nil {
		t.Fatalf("GET after a restart without persistence: %v", got)
	}
}

func TestServerKeepsItsDataWhenArgumentsSaySo(t *testing.T) {
	s := Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s.Do(t, "SET", "k", "v")
	s.Kill()
	s.Restart(t)
	if got := s.Do(t, "GET", "k"); got != "v" {
		t.Fatalf("GET: %v", got)
	}
	s.Stop()
	s.Restart(t)
	if got := s.Do(t, "GET", "k"); got != "v" {
		t.Fatalf("GET after Stop: %v", got)
	}
}

func TestServerWithPasswordIsUpAndDoAuthenticates(t *testing.T) {
	s := Start(t, "--requirepass", "secret")
	if got := s.Do(t, "PING"); got != "PONG" {
		t.Fatalf("PING: %v", got)
	}
	if got, _ := Dial(t, s.Addr()).Do("PING").(Error); !strings.HasPrefix(string(got), "NOAUTH") {
		t.Fatalf("PING without a password: %v", got)
	}
}

func TestServerListensOnUnixSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "r.sock")
	Start(t, "--unixsocket", path)
	if got := Dial(t, path).Do("PING"); got != "PONG" {
		t.Fatalf("PING: %v", got)
	}
}

func TestServersStartedTogetherGetDifferentPorts(t *testing.T) {
	var wg sync.WaitGroup
	servers := make([]*Server, 12)
	for i := range servers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			servers[i] = Start(t)
		}()
	}
	wg.Wait()
	seen := map[int]bool{}
	for _, s := range servers {
		if s == nil || seen[s.Port()] {
			t.Fatal("a server is missing or shares its port")
		}
		seen[s.Port()] = true
	}
}

func TestPausedServerAnswersAfterResume(t *testing.T) {
	s := Start(t)
	c := Dial(t, s.Addr())
	s.Pause()
	c.SetTimeout(100 * time.Millisecond)
	if reply, err := c.TryDo("PING"); err == nil {
		t.Fatalf("a paused server answered %v", reply)
	}
	s.Resume()
	c.SetTimeout(5 * time.Second)
	if got := c.Recv(); got != "PONG" {
		t.Fatalf("PING: %v", got)
	}
}

func TestServerProcessIsGoneAfterItsTest(t *testing.T) {
	pid := 0
	t.Run("inner", func(t *testing.T) { pid = Start(t).PID() })
	if err := syscall.Kill(pid, 0); err == nil {
		t.Fatalf("process %d still exists", pid)
	}
}

func TestRepliesOfEveryKindAsGoValues(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := newConn(t, a)
	for _, test := range []struct {
		wire string
		want any
	}{
		{"+OK\r\n", "OK"},
		{"-ERR no\r\n", Error("ERR no")},
		{"!6\r\nERR no\r\n", Error("ERR no")},
		{":-12\r\n", int64(-12)},
		{"$0\r\n\r\n", ""},
		{"$3\r\na\r\n\r\n", "a\r\n"},
		{"$-1\r\n", nil},
		{"*-1\r\n", nil},
		{"_\r\n", nil},
		{"*0\r\n", []any{}},
		{"*2\r\n:1\r\n*1\r\n$-1\r\n", []any{int64(1), []any{nil}}},
		{"%1\r\n+a\r\n:1\r\n", Map{"a", int64(1)}},
		{"~1\r\n+a\r\n", Set{"a"}},
		{">2\r\n+message\r\n#t\r\n", Push{"message", true}},
		{"#f\r\n", false},
		{",1.5\r\n", 1.5},
		{",-inf\r\n", math.Inf(-1)},
		{"(123456789012345678901234567890\r\n", BigNumber("123456789012345678901234567890")},
		{"=7\r\ntxt:abc\r\n", Verbatim{"txt", "abc"}},
		{"|1\r\n+ttl\r\n:3\r\n:7\r\n", int64(7)},
	} {
		go b.Write([]byte(test.wire))
		got, err := c.TryRecv()
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%q: got %#v (%v), want %#v", test.wire, got, err, test.want)
		}
		if string(c.raw) != test.wire {
			t.Errorf("%q: raw bytes are %q", test.wire, c.raw)
		}
	}
}

func TestConnReadsUntilAndToTheEnd(t *testing.T) {
	c := Dial(t, Start(t).Addr())
	c.WriteString("PING\r\nPING\r\nECHO abc\r\nQUIT\r\n")
	if got := c.ReadUntil("PONG\r\n"); got != "+PONG\r\n" {
		t.Fatalf("ReadUntil: %q", got)
	}
	if got := c.ReadN(7); got != "+PONG\r\n" {
		t.Fatalf("ReadN: %q", got)
	}
	if got := c.ReadAll(); got != "$3\r\nabc\r\n+OK\r\n" {
		t.Fatalf("ReadAll: %q", got)
	}
}

func TestClusterIsReadyQuicklyAndServesEverySlot(t *testing.T) {
	begin := time.Now()
	c := StartCluster(t, 3, 1)
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("a cluster took %s to start", took)
	} else {
		t.Logf("started in %s", took)
	}
	for _, slot := range []int{0, 5460, 5461, 10922, 10923, 16383} {
		owner := c.Node(c.Owner(slot))
		if got := owner.Do(t, "CLUSTER", "COUNTKEYSINSLOT", slot); got != int64(0) {
			t.Errorf("slot %d: %v", slot, got)
		}
	}
	for _, s := range c.nodes {
		info := s.Do(t, "CLUSTER", "INFO").(string)
		for _, want := range []string{"cluster_slots_ok:16384", "cluster_known_nodes:6", "cluster_size:3"} {
			if !strings.Contains(info, want) {
				t.Errorf("%s: no %s in %s", s.Addr(), want, info)
			}
		}
	}
	if role := c.Node(3).Do(t, "ROLE").([]any); role[0] != "slave" || role[2] != int64(c.Node(0).Port()) {
		t.Errorf("node 3 is %v", role)
	}
}

func TestMovedSlotKeepsItsKeys(t *testing.T) {
	c := StartCluster(t, 2, 0, "--requirepass", "secret")
	const slot = 12182 // of key foo
	from := c.Owner(slot)
	to := 1 - from
	for i := range 250 {
		mustOK(t, c.Node(from).Do(t, "SET", "{foo}"+string(rune('a'+i)), i))
	}
	c.StartMove(t, slot, from, to)
	if got, _ := c.Node(from).Do(t, "GET", "foo").(Error); !strings.HasPrefix(string(got), "ASK 12182 ") {
		t.Fatalf("GET of an absent key in a migrating slot: %v", got)
	}
	c.MigrateKeys(t, slot, from, to)
	c.FinishMove(t, slot, from, to)
	if got := c.Node(to).Do(t, "CLUSTER", "COUNTKEYSINSLOT", slot); got != int64(250) {
		t.Fatalf("keys at the new owner: %v", got)
	}
	if got := c.Node(from).Do(t, "GET", "foo"); got != Error("MOVED 12182 "+c.Node(to).Addr()) {
		t.Fatalf("GET at the old owner: %v", got)
	}
}

// shortDir returns a directory with a short path. t.TempDir contains the test's name, which can
// make the path of a unix socket longer than the limit of 107 bytes.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "rt")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
