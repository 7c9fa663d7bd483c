package nodes

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/router"
)

// nodesPatience is how long a test waits for what other processes do.
const nodesPatience = 20 * time.Second

func connectNodes(t *testing.T, url string, options Options) *Nodes {
	t.Helper()
	n, err := tryConnectNodes(t, url, options)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func tryConnectNodes(t *testing.T, url string, options Options) (*Nodes, error) {
	t.Helper()
	expectNoNodesLeft(t)
	target, err := ParseTarget(url)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Connect(t.Context(), target, options)
	if err == nil {
		t.Cleanup(n.Close)
	}
	return n, err
}

var leakChecks sync.Map // *testing.T of the tests that called expectNoNodesLeft

// expectNoNodesLeft checks, after all cleanups that come after the first call of a test, that no
// goroutine of Nodes is left that the test has started. Such goroutines carry the test's name as a
// label: others may run beside it.
func expectNoNodesLeft(t *testing.T) {
	if _, again := leakChecks.LoadOrStore(t, true); again {
		return
	}
	pprof.SetGoroutineLabels(pprof.WithLabels(context.Background(), pprof.Labels("test", t.Name())))
	t.Cleanup(func() {
		redistest.Eventually(t, nodesPatience, "goroutines to end", func() bool {
			stacks := make([]byte, 1<<20)
			stacks = stacks[:runtime.Stack(stacks, true)]
			return !slices.ContainsFunc(strings.Split(string(stacks), "\n\n"), func(stack string) bool {
				return strings.Contains(stack, ".(*Nodes)") && strings.Contains(stack, fmt.Sprintf("%q: %q", "test", t.Name()))
			})
		})
	})
}

// TestMain makes stacks show labels.
func TestMain(m *testing.M) {
	_ = os.Setenv("GODEBUG", "tracebacklabels=1")
	os.Exit(m.Run())
}

// quickRounds is options for tests that wait for the next round.
func quickRounds(interval time.Duration) Options {
	s := &Settings{}
	s.SetTopologyInterval(interval)
	return Options{Settings: s, gap: 20 * time.Millisecond}
}

// captureLog redirects the log until the test ends.
func captureLog(t *testing.T) func() string {
	t.Helper()
	var mu sync.Mutex
	var b bytes.Buffer
	old := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(lockedWriter{&mu, &b}, nil)))
	t.Cleanup(func() { slog.SetDefault(old) })
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return b.String()
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// changes collects what OnChange is told.
type changes chan [2]*router.Topology

func watchNodes(n *Nodes) changes {
	c := make(changes, 100)
	n.OnChange(func(old, new *router.Topology) { c <- [2]*router.Topology{old, new} })
	return c
}

func (c changes) next(t *testing.T) (old, new *router.Topology) {
	t.Helper()
	select {
	case pair := <-c:
		return pair[0], pair[1]
	case <-time.After(nodesPatience):
		t.Fatal("OnChange was not called")
		return nil, nil
	}
}

func redisVersion(t *testing.T, s *redistest.Server) string {
	t.Helper()
	info, _ := s.Do(t, "INFO", "server").(string)
	return infoFields(info)["redis_version"]
}

func TestStandaloneNodeIsDescribed(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--maxclients", "123")
	n := connectNodes(t, "redis://"+s.Addr()+"/3", Options{})
	info := n.Info()
	version := redisVersion(t, s)
	if info.Kind != Standalone || info.Version != version || info.Product != "redis" || info.Mode != "standalone" ||
		info.Role != "master" || info.AuthRequired || info.MaxClients != 123 {
		t.Errorf("%+v", *info)
	}
	if _, err := router.Builtin().With(info.Commands); err != nil {
		t.Errorf("COMMAND: %v", err)
	}
	if got, want := n.Describe(), fmt.Sprintf("%s (redis %s)", s.Addr(), version); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if top := n.Topology(); top.Served() != router.Slots || top.Primary(777) != s.Addr() {
		t.Errorf("topology: %s", top)
	}
	if !n.Ready() || time.Since(n.Health().At) > nodesPatience {
		t.Errorf("health: %+v", n.Health())
	}
}

func TestUnixSocketIsANode(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "nodes")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "redis.sock")
	s := redistest.Start(t, "--unixsocket", path, "--requirepass", "secret")
	n := connectNodes(t, "unix://:secret@"+path+"?db=2", Options{})
	if got, want := n.Describe(), fmt.Sprintf("%s (redis %s)", path, redisVersion(t, s)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := n.Topology().Primary(0); got != path {
		t.Errorf("topology: %s", got)
	}
}

func TestPasswordOpensTheNode(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "secret")
	s.Do(t, "ACL", "SETUSER", "app", "on", ">geheim", "~*", "+@all")
	for _, user := range []string{":secret", "default:secret", "app:geheim"} {
		n := connectNodes(t, "redis://"+user+"@"+s.Addr(), Options{})
		if info := n.Info(); !info.AuthRequired || info.Version != redisVersion(t, s) || info.Commands == nil {
			t.Errorf("%s: %+v", user, *info)
		}
	}
}

func TestWrongPasswordIsReportedClearlyAndNeverShown(t *testing.T) {
	log := captureLog(t)
	s := redistest.Start(t, "--requirepass", "secret")
	open := redistest.Start(t)
	for _, test := range []struct{ url, words string }{
		{"redis://:hunter2@" + s.Addr(), "WRONGPASS"},
		{"redis://nobody:hunter2@" + s.Addr(), "WRONGPASS"},
		{"redis://nobody@" + s.Addr(), "WRONGPASS"},
		{"redis://:hunter2@" + open.Addr(), "without any password configured"},
	} {
		// The same if berth may wait for its nodes: waiting does not mend a password.
		_, err := tryConnectNodes(t, test.url, Options{Wait: true})
		config, ok := errors.AsType[*ConfigError](err)
		if !ok || !strings.Contains(config.Why, "refuses the user and password that berth was given") ||
			!strings.Contains(err.Error(), test.words) {
			t.Errorf("%v", err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the password is shown: %v", err)
		}
	}
	if strings.Contains(log(), "hunter2") {
		t.Errorf("the password is logged: %s", log())
	}
}

func TestNodeThatWantsAPasswordBerthDoesNotHaveIsUsedBlindly(t *testing.T) {
	log := captureLog(t)
	s := redistest.Start(t, "--requirepass", "secret")
	n := connectNodes(t, "redis://"+s.Addr(), Options{})
	if info := n.Info(); info.Kind != Standalone || !info.AuthRequired || info.Version != "" || info.Commands != nil {
		t.Errorf("%+v", *info)
	}
	if got, want := n.Describe(), s.Addr()+" (asks for a password)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if !n.Ready() || n.Topology().Served() != router.Slots {
		t.Errorf("ready: %t, topology: %s", n.Ready(), n.Topology())
	}
	if !strings.Contains(log(), "clients must give their own passwords") {
		t.Errorf("log: %s", log())
	}
}

func TestUserThatMayNotRunINFOIsEnough(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	s.Do(t, "ACL", "SETUSER", "app", "on", ">geheim", "~*", "+get")
	n := connectNodes(t, "redis://app:geheim@"+s.Addr(), Options{})
	info := n.Info()
	if info.Kind != Standalone || info.Version != redisVersion(t, s) || info.Role != "master" || info.Commands != nil {
		t.Errorf("%+v", *info)
	}
}

func TestDiscoveryOfAClusterSaysWhichPermissionsItNeeds(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 1, 0, "--requirepass", "secret")
	addr := c.Node(0).Addr()
	c.Node(0).Do(t, "ACL", "SETUSER", "app", "on", ">geheim", "~*", "+get")
	for _, url := range []string{"redis://" + addr + "," + addr, "redis://app:geheim@" + addr} {
		_, err := tryConnectNodes(t, url, Options{})
		if _, ok := errors.AsType[*ConfigError](err); !ok || !strings.Contains(err.Error(), "CLUSTER SHARDS") {
			t.Errorf("%v", err)
		}
	}
	c.Node(0).Do(t, "ACL", "SETUSER", "app", "+cluster|slots")
	n := connectNodes(t, "redis://app:geheim@"+addr, Options{})
	if n.Info().Kind != Cluster || n.Topology().Primary(0) != addr {
		t.Errorf("%+v, %s", *n.Info(), n.Topology())
	}
}

func TestMistakesInTheConfigurationAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	a, b := redistest.Start(t), redistest.Start(t)
	c := redistest.StartCluster(t, 1, 0)
	says := func(info string) *scriptedNode {
		return startScriptedNode(t, func(command string) string {
			if command == "info" {
				return bulk(info)
			}
			return "+PONG\r\n"
		})
	}
	sentinel := says("# Server\r\nredis_version:7.0.15\r\nredis_mode:sentinel\r\n")
	valkey := says("# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.1.2\r\nserver_mode:sentinel\r\n")
	for _, test := range []struct{ url, words string }{
		{"redis://" + a.Addr() + "," + b.Addr(), "give berth one address"},
		{"redis://" + a.Addr() + "/16", "has no database 16"},
		{"redis://" + c.Node(0).Addr() + "/1", "is a Redis Cluster that has no database 1"},
		{"redis://" + sentinel.addr(), "is a Sentinel"},
		{"redis://" + valkey.addr(), "is a Sentinel"},
	} {
		_, err := tryConnectNodes(t, test.url, Options{Wait: true})
		if _, ok := errors.AsType[*ConfigError](err); !ok || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v, want %q", test.url, err, test.words)
		}
	}
}

func TestClusterIsFoundOutByAskingAnyNodeThatLives(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 0)
	gone := redistest.Start(t)
	gone.Kill()
	for i := range c.Len() {
		n := connectNodes(t, "redis://"+gone.Addr()+","+c.Node(i).Addr(), Options{})
		top := n.Topology()
		for slot := range router.Slots {
			if got, want := top.Primary(uint16(slot)), c.Node(c.Owner(slot)).Addr(); got != want {
				t.Fatalf("asked %d: slot %d: %s, want %s", i, slot, got, want)
			}
		}
		want := fmt.Sprintf("cluster of 3 primaries (redis %s)", redisVersion(t, c.Node(0)))
		if n.Describe() != want || n.Info().Mode != "cluster" {
			t.Errorf("%s, want %s", n.Describe(), want)
		}
	}
}

func TestReplicasAreKnownOnceTheyHaveTheirData(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 1)
	n := connectNodes(t, "redis://"+c.Node(0).Addr(), quickRounds(50*time.Millisecond))
	redistest.Eventually(t, nodesPatience, "every shard to have its replica", func() bool {
		for i, shard := range n.Topology().Shards() {
			if len(shard.Replicas) != 1 || shard.Replicas[0] != c.Node(3+i).Addr() {
				return false
			}
		}
		return true
	})
}

// startOlderNode starts a cluster node of 6.2, which does not know CLUSTER SHARDS. said is what
// else it says, by command.
func startOlderNode(t *testing.T, said map[string]string) *scriptedNode {
	t.Helper()
	said["ping"] = "+PONG\r\n"
	said["info"] = bulk("redis_version:6.2.14\r\nredis_mode:cluster\r\n")
	said["cluster info"] = bulk("cluster_state:ok\r\n")
	return startScriptedNode(t, func(command string) string {
		return cmp.Or(said[command], "-ERR Unknown subcommand or wrong number of arguments for 'shards'. Try CLUSTER HELP.\r\n")
	})
}

func TestOlderClusterIsReadFromCLUSTERSLOTS(t *testing.T) {
	t.Parallel()
	s := startOlderNode(t, map[string]string{
		"cluster slots": "*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n$0\r\n\r\n:7001\r\n$2\r\nid\r\n",
	})
	n := connectNodes(t, "redis://"+s.addr(), Options{})
	if got := n.Topology().Primary(5); got != "127.0.0.1:7001" || n.Topology().Served() != router.Slots {
		t.Errorf("%s", n.Topology())
	}
	if n.Describe() != "cluster of 1 primaries (redis 6.2.14)" {
		t.Error(n.Describe())
	}
}

func TestNodeThatSaysTheClusterIsOKIsBelievedFirst(t *testing.T) {
	t.Parallel()
	node := func(state, slots string) *scriptedNode {
		return startScriptedNode(t, func(command string) string {
			switch command {
			case "info":
				return bulk("redis_version:7.0.15\r\nredis_mode:cluster\r\n")
			case "cluster info":
				return bulk("cluster_state:" + state + "\r\n")
			case "cluster shards":
				return "-ERR unknown subcommand\r\n"
			case "cluster slots":
				return slots
			}
			return "+PONG\r\n"
		})
	}
	slots := func(to, port int) string {
		return fmt.Sprintf("*1\r\n*3\r\n:0\r\n:%d\r\n*2\r\n$0\r\n\r\n:%d\r\n", to, port)
	}
	alone := node("fail", slots(99, 7001)).addr()
	most := node("fail", slots(16000, 7002)).addr()
	ok := node("ok", slots(50, 7003)).addr()
	empty := node("ok", "*0\r\n").addr()
	for _, test := range []struct {
		seeds []string
		want  string
	}{
		{[]string{alone, most, ok}, "127.0.0.1:7003"},
		{[]string{alone, most, empty}, "127.0.0.1:7002"},
		{[]string{most, alone}, "127.0.0.1:7002"},
	} {
		n := connectNodes(t, "redis://"+strings.Join(test.seeds, ","), Options{})
		if got := n.Topology().Primary(0); got != test.want {
			t.Errorf("slot 0 belongs to %s, want %s", got, test.want)
		}
	}
	if _, err := tryConnectNodes(t, "redis://"+empty, Options{}); !errors.Is(err, errNoSlots) {
		t.Errorf("%v", err)
	}
}

func TestCompatibleProductIsCalledByItsName(t *testing.T) {
	t.Parallel()
	s := startScriptedNode(t, func(command string) string {
		if command == "info" {
			return bulk("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\nredis_mode:standalone\r\n")
		}
		return "+PONG\r\n"
	})
	n := connectNodes(t, "redis://"+s.addr(), Options{})
	if got, want := n.Describe(), s.addr()+" (valkey 8.0.1)"; got != want || n.Info().Version != "7.2.4" {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestProductIsCalledByItsNameToAUserWithoutInfo(t *testing.T) {
	t.Parallel()
	for hello, want := range map[string]string{
		"*14\r\n+server\r\n+valkey\r\n+version\r\n+9.1.2\r\n+proto\r\n:2\r\n+id\r\n:4\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n+modules\r\n*0\r\n": "valkey 9.1.2, 7.2.4",
		"*14\r\n+server\r\n+redis\r\n+version\r\n+8.0.2\r\n+proto\r\n:2\r\n+id\r\n:4\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n+modules\r\n*0\r\n":  "redis 8.0.2, 8.0.2",
	} {
		s := startScriptedNode(t, func(command string) string {
			switch command {
			case "info":
				return "-NOPERM this user has no permissions to run the 'info' command\r\n"
			case "hello 2":
				return hello
			}
			return "+PONG\r\n"
		})
		info := connectNodes(t, "redis://"+s.addr(), Options{}).Info()
		if got := info.Product + " " + info.Release + ", " + info.Version; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestKilledPrimaryIsReplacedByItsReplica(t *testing.T) {
	log := captureLog(t)
	c := redistest.StartCluster(t, 3, 1)
	n := connectNodes(t, "redis://"+c.Node(0).Addr(), quickRounds(50*time.Millisecond))
	told := watchNodes(n)
	dead, heir := c.Node(0).Addr(), c.Node(3).Addr()
	c.Node(0).Kill() // the seed as well: the other nodes are known by now
	for {
		_, now := told.next(t)
		if got := now.Primary(0); got == heir {
			break
		} else if got != "" && got != dead {
			t.Fatalf("slot 0 belongs to %s", got)
		}
	}
	if got := n.Topology().Primary(0); got != heir {
		t.Errorf("slot 0 belongs to %s", got)
	}
	if got, want := n.Topology().Primary(16383), c.Node(2).Addr(); got != want {
		t.Errorf("slot 16383 belongs to %s, want %s", got, want)
	}
	if !strings.Contains(log(), "topology changed") || !strings.Contains(log(), "→ "+heir) {
		t.Errorf("log: %s", log())
	}
}

func TestRefreshFindsAMovedSlotWithoutAHint(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, 3, 0)
	n := connectNodes(t, "redis://"+c.Node(0).Addr(), quickRounds(time.Hour))
	told := watchNodes(n)
	const slot = 100
	c.MoveSlot(t, slot, c.Owner(slot), 1)
	n.Refresh()
	if _, now := told.next(t); now.Primary(slot) != c.Node(1).Addr() {
		t.Errorf("slot %d belongs to %s", slot, now.Primary(slot))
	}
}

func TestRefreshesAreFewAndOneAtATimeAndNoneIsLost(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asking, overlaps := false, 0
	script := standaloneScript("7.0.15")
	s := startScriptedNode(t, func(command string) string {
		mu.Lock()
		defer mu.Unlock()
		switch command {
		case "ping": // a round begins with it
			if asking {
				overlaps++
			}
			asking = true
		case "info": // and waits for it
			asking = false
		}
		return script(command)
	})
	const gap = 100 * time.Millisecond
	begin := time.Now()
	n := connectNodes(t, "redis://"+s.addr(), Options{gap: gap})
	for range 3 {
		var callers sync.WaitGroup
		for range 8 {
			callers.Add(1)
			go func() {
				defer callers.Done()
				for begin := time.Now(); time.Since(begin) < 3*gap; runtime.Gosched() {
					n.Refresh()
				}
			}()
		}
		callers.Wait()
		last := time.Now()
		n.Refresh()
		redistest.Eventually(t, nodesPatience, "a round that began after the last call", func() bool {
			rounds := s.rounds()
			return rounds[len(rounds)-1].After(last)
		})
	}
	rounds, most := len(s.rounds()), 1+int(time.Since(begin)/gap)
	if rounds > most || rounds < 4 {
		t.Errorf("%d rounds, want 4 to %d", rounds, most)
	}
	mu.Lock()
	defer mu.Unlock()
	if overlaps > 0 {
		t.Errorf("%d rounds began before the one before ended", overlaps)
	}
}

func TestRefreshAskedForDuringARoundLeadsToAnother(t *testing.T) {
	t.Parallel()
	began, goOn := make(chan struct{}), make(chan struct{})
	script := standaloneScript("7.0.15")
	var first sync.Once
	s := startScriptedNode(t, func(command string) string {
		connecting := false
		if command == "ping" {
			first.Do(func() { connecting = true })
			if !connecting {
				began <- struct{}{}
				<-goOn
			}
		}
		return script(command)
	})
	n := connectNodes(t, "redis://"+s.addr(), quickRounds(time.Hour))
	n.Refresh()
	<-began
	for range 10 {
		n.Refresh()
	}
	goOn <- struct{}{}
	select {
	case <-began:
		goOn <- struct{}{}
	case <-time.After(nodesPatience):
		t.Fatal("no round behind the one that was under way")
	}
	redistest.Eventually(t, nodesPatience, "the second round to end", func() bool { return n.Stats().Rounds == 3 })
}

func TestTopologyIntervalIsHot(t *testing.T) {
	t.Parallel()
	s := startScriptedNode(t, standaloneScript("7.0.15"))
	n := connectNodes(t, "redis://"+s.addr(), quickRounds(time.Hour))
	n.Refresh()
	redistest.Eventually(t, nodesPatience, "the long pause to begin", func() bool { return n.Stats().Rounds == 2 })
	n.SetTopologyInterval(30 * time.Millisecond)
	redistest.Eventually(t, nodesPatience, "rounds without a cause", func() bool { return n.Stats().Rounds > 4 })
}

func TestCommandReplyIsReadAgainOnlyWhenItMayDiffer(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	version, loaded := "7.0.15", 0
	script := func(command string) string {
		mu.Lock()
		defer mu.Unlock()
		switch command {
		case "command":
			return fmt.Sprintf("*%d\r\n%s", loaded, strings.Repeat("*0\r\n", loaded))
		case "command count":
			return fmt.Sprintf(":%d\r\n", loaded)
		}
		return standaloneScript(version)(command)
	}
	s := startScriptedNode(t, script)
	count := func() (n int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, command := range s.asked {
			if command == "command" {
				n++
			}
		}
		return n
	}
	n := connectNodes(t, "redis://"+s.addr(), quickRounds(20*time.Millisecond))
	redistest.Eventually(t, nodesPatience, "a few rounds", func() bool { return len(s.rounds()) > 3 })
	if got := count(); got != 1 {
		t.Fatalf("COMMAND was asked %d times", got)
	}
	mu.Lock()
	version = "7.2.0"
	mu.Unlock()
	redistest.Eventually(t, nodesPatience, "the upgrade to be seen", func() bool { return n.Info().Version == "7.2.0" })
	if got := count(); got != 2 {
		t.Fatalf("COMMAND was asked %d times", got)
	}
	mu.Lock()
	loaded++
	mu.Unlock()
	redistest.Eventually(t, nodesPatience, "the module's command to be seen", func() bool {
		return strings.HasPrefix(string(n.Info().Commands), "*1\r\n")
	})
}

func TestBerthMayStartBeforeItsNode(t *testing.T) {
	log := captureLog(t)
	s := redistest.Start(t)
	s.Kill()
	if _, err := tryConnectNodes(t, "redis://"+s.Addr(), Options{}); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Fatalf("without Wait: %v", err)
	}
	n := connectNodes(t, "redis://"+s.Addr(), Options{Wait: true})
	told := watchNodes(n)
	if n.Ready() || n.Topology().Served() != 0 || n.Health().Err == nil || !n.Health().At.IsZero() {
		t.Fatalf("ready: %t, topology: %s, health: %+v", n.Ready(), n.Topology(), n.Health())
	}
	if got, want := n.Describe(), s.Addr()+" (not reachable yet)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.Restart(t)
	if old, now := told.next(t); old.Served() != 0 || now.Primary(0) != s.Addr() {
		t.Errorf("told: %s", old.Changes(now))
	}
	if !n.Ready() || n.Info().Version == "" {
		t.Errorf("ready: %t, info: %+v", n.Ready(), *n.Info())
	}
	for _, words := range []string{"backend cannot be asked", "connection refused", "backend answers"} {
		if strings.Count(log(), words) != 1 {
			t.Errorf("%q is not once in the log: %s", words, log())
		}
	}
}

func TestStandaloneNodeThatGoesAndComesIsReported(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	n := connectNodes(t, "redis://"+s.Addr(), quickRounds(20*time.Millisecond))
	s.Kill()
	redistest.Eventually(t, nodesPatience, "not ready", func() bool { return !n.Ready() })
	if n.Topology().Primary(0) != s.Addr() || n.Health().At.IsZero() {
		t.Errorf("topology: %s, health: %+v", n.Topology(), n.Health())
	}
	s.Restart(t)
	redistest.Eventually(t, nodesPatience, "ready", n.Ready)
}

func TestNodeThatHangsCostsOneTimeout(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	options := quickRounds(time.Hour)
	n := connectNodes(t, "redis://"+s.Addr(), options)
	options.Settings.SetDialTimeout(100 * time.Millisecond)
	s.Pause()
	defer s.Resume()
	n.Refresh()
	redistest.Eventually(t, nodesPatience, "not ready", func() bool { return !n.Ready() })
	var timeout net.Error
	if err := n.Health().Err; !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("%v", err)
	}
}

func TestCloseEndsARoundThatHangs(t *testing.T) {
	t.Parallel()
	hanging := make(chan struct{}, 1)
	script := standaloneScript("7.0.15")
	first := true
	s := startScriptedNode(t, func(command string) string {
		if command == "info" && !first {
			hanging <- struct{}{}
			return ""
		}
		if command == "info" {
			first = false
		}
		return script(command)
	})
	options := quickRounds(time.Hour)
	options.Settings.SetDialTimeout(time.Hour)
	n := connectNodes(t, "redis://"+s.addr(), options)
	n.Refresh()
	<-hanging
	n.Close()
}

func TestConnectEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s := startScriptedNode(t, func(string) string {
		cancel()
		return ""
	})
	settings := &Settings{}
	settings.SetDialTimeout(time.Hour)
	_, err := Connect(ctx, Target{Addrs: []string{s.addr()}}, Options{Settings: settings})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

// A node that runs a long script must not be taken for gone: no other node could serve in its
// place.
func TestOnlyAClusterIsAskedWhenANodeIsSilent(t *testing.T) {
	for _, test := range []struct {
		topology *router.Topology
		asked    int
	}{
		{router.Single("a:1"), 0},
		{router.Even([]string{"a:1"}), 0},
		{router.Even([]string{"a:1", "b:1"}), 1},
	} {
		n := newNodes(Target{}, &Settings{}, refreshGap)
		n.topology.Store(test.topology)
		n.Suspect()
		if got := len(n.refreshWanted); got != test.asked {
			t.Errorf("%v: %d rounds asked for, want %d", test.topology, got, test.asked)
		}
	}
}

// One loss is enough: requests for a node that is away wait, and ask for no more rounds.
func TestALossIsFollowedByRoundsUntilAnotherNodeMayHaveTakenOver(t *testing.T) {
	t.Parallel()
	s := startScriptedNode(t, func(command string) string {
		switch command {
		case "info":
			return bulk("redis_version:7.0.15\r\nredis_mode:cluster\r\n")
		case "cluster info":
			return bulk("cluster_state:ok\r\n")
		case "cluster slots":
			return "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n+127.0.0.1\r\n:7000\r\n"
		case "cluster nodes":
			return bulk("a 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-16383\n")
		}
		return "+PONG\r\n"
	})
	settings := &Settings{}
	settings.SetTopologyInterval(time.Hour)
	n := connectNodes(t, "redis://"+s.addr(), Options{Settings: settings})
	before := len(s.rounds())
	n.Lost()
	redistest.Eventually(t, nodesPatience, "three rounds more", func() bool { return len(s.rounds()) >= before+3 })
}

func TestLossesHurryRoundsForAWhileOnly(t *testing.T) {
	t.Parallel()
	const gap = time.Second
	for _, test := range []struct {
		kind         Kind
		lost, before time.Duration // how long ago the latest loss was, and the first one or a change
		awaits       bool
	}{
		{Cluster, 0, 0, true},
		{Cluster, 2 * gap, 20 * gap, true},
		{Cluster, 4 * gap, 4 * gap, false},
		{Cluster, 0, 31 * gap, false},
		{Standalone, 0, 0, false},
	} {
		n := newNodes(Target{}, &Settings{}, gap)
		n.info.Store(&Info{Kind: test.kind})
		n.lost.nanoseconds.Store(time.Now().Add(-test.lost).UnixNano())
		n.trouble.nanoseconds.Store(time.Now().Add(-test.before).UnixNano())
		if got := n.awaitsTakeover(); got != test.awaits {
			t.Errorf("%+v: %v", test, got)
		}
		if n.Lost(); n.trouble.within(gap/2) != (test.before == 0) { // it goes on, or else it would never end
			t.Errorf("%+v: the next loss begins another trouble", test)
		}
	}
	n := newNodes(Target{}, &Settings{}, gap)
	if n.Lost(); !n.trouble.within(gap / 2) {
		t.Error("the first loss begins no trouble")
	}
}

// A forged node must not end berth, and what it says of itself is not believed beyond the bounds.
func TestForgedTopologyIsARoundThatFailed(t *testing.T) {
	t.Parallel()
	text := func(s string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(s), s) }
	for question, entry := range map[string]func(host string, to int) string{
		"cluster slots": func(host string, to int) string {
			return fmt.Sprintf("*3\r\n:0\r\n:%d\r\n*2\r\n%s:1\r\n", to, text(host))
		},
		"cluster shards": func(host string, to int) string {
			return fmt.Sprintf("*4\r\n%s*2\r\n:0\r\n:%d\r\n%s*1\r\n*4\r\n%s%s%s:1\r\n",
				text("slots"), to, text("nodes"), text("endpoint"), text(host), text("port"))
		},
	} {
		t.Run(question, func(t *testing.T) {
			var forged atomic.Bool
			var many strings.Builder
			for i := range 10_000 {
				many.WriteString(entry(fmt.Sprint("h", i), 0))
			}
			s := startScriptedNode(t, func(command string) string {
				switch {
				case command == "ping":
					return "+PONG\r\n"
				case command == "info":
					return bulk("redis_version:7.0.15\r\nredis_mode:cluster\r\n")
				case command == "cluster info":
					return bulk("cluster_state:ok\r\n")
				case command == question && forged.Load():
					return "*10000\r\n" + many.String()
				case command == question:
					return "*1\r\n" + entry("127.0.0.1", 16383)
				}
				return "-NOPERM\r\n"
			})
			n := connectNodes(t, "redis://"+s.addr(), quickRounds(time.Hour))
			before := n.Topology()
			forged.Store(true)
			n.Refresh()
			redistest.Eventually(t, nodesPatience, "the forged round", func() bool { return n.Stats().Failures > 0 })
			if err := n.Health().Err; !errors.Is(err, router.ErrNotTopology) {
				t.Error(err)
			}
			if n.Topology() != before {
				t.Errorf("the topology is %s", n.Topology())
			}
		})
	}
}

// From Redis 7.2 to 8.0 a shard whose primary was replaced is without slots in CLUSTER SHARDS,
// while CLUSTER SLOTS has them.
func TestSlotsThatOneAnswerLeavesOutAreServed(t *testing.T) {
	t.Parallel()
	s := startScriptedNode(t, func(command string) string {
		switch command {
		case "info":
			return bulk("redis_version:7.2.5\r\nredis_mode:cluster\r\n")
		case "cluster info":
			return bulk("cluster_state:ok\r\n")
		case "cluster shards":
			return "*1\r\n*4\r\n+slots\r\n*0\r\n+nodes\r\n*1\r\n*4\r\n+endpoint\r\n+127.0.0.1\r\n+port\r\n:7000\r\n"
		case "cluster slots":
			return "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n+127.0.0.1\r\n:7000\r\n"
		case "cluster nodes":
			return bulk("a 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-16383\n")
		}
		return "+PONG\r\n"
	})
	if n := connectNodes(t, "redis://"+s.addr(), Options{}); n.Topology().Primary(16383) != "127.0.0.1:7000" {
		t.Errorf("%s", n.Topology())
	}
}

// Before Redis 7.0 only CLUSTER NODES names the node to which an ASK leads while it imports its
// first slot.
func TestNodesWithoutSlotsAreKnownBeforeRedis7(t *testing.T) {
	t.Parallel()
	s := startOlderNode(t, map[string]string{
		"cluster slots": "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:7000\r\n",
		"cluster nodes": bulk("a 127.0.0.1:7000@17000 myself,master - 0 0 1 connected 0-16383\nb 127.0.0.1:7001@17001 master - 0 0 2 connected\n"),
	})
	n := connectNodes(t, "redis://"+s.addr(), Options{})
	if topology := n.Topology(); !topology.Knows("127.0.0.1:7001") || !topology.Knows("127.0.0.1:7000") || topology.Knows("127.0.0.1:7002") {
		t.Errorf("%s", topology)
	}
}

// A replica of a single node is none that berth was given: it does not take the place of its primary.
func TestSingleNodeIsNotReplacedByItsReplica(t *testing.T) {
	primary := redistest.Start(t)
	replica := redistest.Start(t, "--replicaof", strings.ReplaceAll(primary.Addr(), ":", " "), "--repl-diskless-sync-delay", "0")
	n := connectNodes(t, "redis://"+primary.Addr(), Options{gap: 20 * time.Millisecond})
	redistest.Eventually(t, 20*time.Second, "the replica to be known", func() bool {
		n.Refresh()
		return slices.Equal(n.Topology().Shards()[0].Replicas, []string{replica.Addr()})
	})
	primary.Kill()
	before := n.Stats().Failures
	redistest.Eventually(t, 20*time.Second, "rounds that find no node", func() bool {
		n.Lost()
		return n.Stats().Failures >= before+3
	})
	if got := n.Topology().Primary(0); got != primary.Addr() || n.Ready() {
		t.Errorf("the primary is %s, and ready is %v", got, n.Ready())
	}
}
