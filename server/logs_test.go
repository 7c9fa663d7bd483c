package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
	"github.com/berth-proxy/berth/server/config"
	"github.com/berth-proxy/berth/server/eventlog"
)

// useLog has berth log to a file until the test ends.
func useLog(t testing.TB, path string, level slog.Level) *eventlog.Log {
	t.Helper()
	l, err := eventlog.Open(path, config.LogText, level)
	if err != nil {
		t.Fatal(err)
	}
	before := slog.Default()
	slog.SetDefault(l.Logger)
	t.Cleanup(func() {
		slog.SetDefault(before)
		l.Settle()
		l.Close()
	})
	return l
}

func readLog(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// linesFor is how many events of a kind the log tells of, and in how many lines. line is a pattern of what
// comes after the message.
func linesFor(log, message, line string) (lines, events int) {
	pattern := regexp.MustCompile(`msg="` + message + `(?:, (\d+) more like it)?" .*` + line + `.*`)
	for _, found := range pattern.FindAllStringSubmatch(log, -1) {
		lines++
		if strings.Contains(found[0], "addr=") {
			events++
		}
		more, _ := strconv.Atoi(found[1])
		events += more
	}
	return lines, events
}

// Of very many clients that are refused for the same reason the log has a few lines, and their exact number.
func TestAFloodOfRefusedClientsIsAFewLinesWithTheirNumber(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	l := useLog(t, path, config.LevelNotice)
	b := startBerth(t, sharedNode(t).Addr(), "--maxclients", "1")
	served := dial(t, b.Addr())
	script(t, served, "PING → PONG")
	const flood = 300
	for range flood {
		if got := dial(t, b.Addr()).ReadAll(); got != tooManyClients {
			t.Fatalf("one too many: %q", got)
		}
	}
	script(t, served, "PING → PONG")
	l.Settle()
	log := readLog(t, path)
	if lines, events := linesFor(log, "client refused", `why=maxclients`); events != flood || lines > 30 {
		t.Errorf("%d lines tell of %d clients:\n%s", lines, events, log)
	}
	if !regexp.MustCompile(`level=warning msg="client refused" why=maxclients addr=127\.0\.0\.1:\d+ limit=1\n`).MatchString(log) {
		t.Errorf("no line has the client's address and the limit:\n%s", log)
	}
}

// Whoever berth closes of its own accord has a line with the address, the number and the reason.
func TestEachClientThatBerthClosesIsLogged(t *testing.T) {
	node := redistest.Start(t)
	node.Do(t, "SET", "big", strings.Repeat("x", 2<<20))
	for name, c := range map[string]struct {
		options []string
		send    string
		reads   bool
		line    string // after the client
	}{
		"query buffer": {[]string{"client-query-buffer-limit", "1mb"}, "*2\r\n$3\r\nGET\r\n$2000000\r\n" + strings.Repeat("x", 1<<20+100), true,
			`why="query buffer limit" bytes=\d+ limit=1048576`},
		"bulk length": {[]string{"proto-max-bulk-len", "1mb"}, "*2\r\n$3\r\nGET\r\n$2000000\r\n", true,
			`why="protocol error" error="Protocol error: invalid bulk length"`},
		"protocol": {nil, "*1\r\n!\r\n", true, `why="protocol error" error="Protocol error: expected '\$', got '!'"`},
		"HTTP":     {nil, "POST / HTTP/1.1\r\n\r\n", true, `why="HTTP request"`},
		"PROXY":    {nil, "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n", true, `why="PROXY header"`},
		"output": {[]string{"client-output-buffer-limit", "normal 1mb 0 0"}, strings.Repeat("GET big\r\n", 20), false,
			`cmd=get why="output buffer hard limit" bytes=\d+ limit=1048576`},
		"idle":   {[]string{"timeout", "1"}, "PING\r\n", true, `cmd=ping why="idle timeout" limit=1s`},
		"memory": {[]string{"maxmemory-clients", "1mb"}, strings.Repeat("GET big\r\n", 20), false, `why="memory of all clients" bytes=\d+ limit=1048576`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "berth.log")
			l := useLog(t, path, config.LevelNotice)
			b := startBerth(t, node.Addr(), "--loops", "1")
			b.set(append([]string{"loglevel", "notice"}, c.options...)...)
			nc := dialNarrow(t, b.Addr())
			_, _ = io.WriteString(nc, c.send) // the end of it may come too late
			if c.reads {
				_, _ = io.Copy(io.Discard, nc)
			}
			line := regexp.MustCompile(`msg="client closed" addr=` + nc.LocalAddr().String() + ` id=\d+ user=default (cmd=\w+ )?` + c.line + "\n")
			eventually(t, line.String(), func() bool { return line.MatchString(readLog(t, path)) })
			b.Stop()
			l.Settle()
			if log := readLog(t, path); strings.Count(log, `"client closed"`) != 1 {
				t.Errorf("one client was closed:\n%s", log)
			}
		})
	}
}

// A client's names are its own: the log shows their beginning, and on one line.
func TestNamesOfClientsAreCutInTheLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	useLog(t, path, config.LevelVerbose)
	b := startBerth(t, sharedNode(t).Addr())
	named, killer := dial(t, b.Addr()), dial(t, b.Addr())
	long := strings.Repeat(`"\`, 500)
	if got := named.Do("CLIENT", "SETNAME", long); got != "OK" {
		t.Fatal(got)
	}
	script(t, killer, "CLIENT KILL ADDR "+named.LocalAddr()+" → 1")
	named.ReadAll()
	log := readLog(t, path)
	if line := `level=verbose msg="client closed" addr=` + named.LocalAddr(); !strings.Contains(log, line) || strings.Contains(log, strconv.Quote(long)[1:maxShownName*3]) {
		t.Errorf("got %s", log)
	}
}

// Who waits too long for an exclusive connection, alone or with others, has a line, and so has a WATCH that
// is taken back.
func TestEachWaitForALeaseThatIsInVainIsLogged(t *testing.T) {
	node := redistest.Start(t)
	path := filepath.Join(t.TempDir(), "berth.log")
	l := useLog(t, path, config.LevelNotice)
	b := startBerth(t, node.Addr(), "--private-conn-pool-max-total", "1", "--pool-wait-timeout", "50", "--loops", "1")
	holder := dial(t, b.Addr())
	holder.Send("BLPOP", "never", 0)
	b.awaitLeased(t, 1)
	var late []*redistest.Conn
	for _, ask := range [][]any{{"WATCH", "k"}, {"BLPOP", "another", 0}, {"BLPOP", "another", 0}} {
		c := dial(t, b.Addr())
		c.Send(ask...)
		late = append(late, c)
	}
	for _, c := range late {
		if got := fmt.Sprint(c.Recv()); !strings.HasPrefix(got, "TRYAGAIN berth: no backend connection within 50ms") {
			t.Errorf("got %s", got)
		}
	}
	l.Settle()
	log := readLog(t, path)
	if _, events := linesFor(log, "no exclusive connection in time", "why=pool-wait-timeout"); events != len(late) {
		t.Errorf("the log tells of %d waits:\n%s", events, log)
	}
	if line := `msg="no exclusive connection in time" addr=127\.0\.0\.1:\d+ id=\d+ user=default cmd=\w+ why=pool-wait-timeout node=` + node.Addr() + ` limit=50ms`; !regexp.MustCompile(line).MatchString(log) {
		t.Errorf("no %s:\n%s", line, log)
	}
	holder.Close()
	b.awaitLeased(t, 0)

	b.set("watch-max-idle", "20", "pool-wait-timeout", "30000")
	watcher := dial(t, b.Addr())
	script(t, watcher, "SET k 1 → OK", "WATCH k → OK")
	eventually(t, "the WATCH to be taken back", func() bool { return b.leases().Leased == 0 })
	line := `msg="WATCH revoked" addr=` + watcher.LocalAddr() + ` id=\d+ user=default cmd=watch why=watch-max-idle node=` + node.Addr() + ` idle=`
	if log := readLog(t, path); !regexp.MustCompile(line).MatchString(log) {
		t.Errorf("no %s:\n%s", line, log)
	}
}

// Clients that are not let in have a line each: those of a full door, those who dawdle, and those whose TLS
// is none.
func TestEachClientThatIsNotLetInIsLogged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "berth.log")
	useLog(t, path, config.LevelNotice)
	full := "127.0.0.1:" + freePort(t)
	b := startTLS(t, sharedNode(t).Addr(), "--tls-handshake-timeout", "1", "--listen", full+" maxclients=1")
	served := dial(t, full)
	script(t, served, "PING → PONG")
	tooMany := dial(t, full)
	tooMany.ReadAll()
	dawdles, lies := b.raw(t), b.raw(t)
	if _, err := lies.Write([]byte("\x16\x03\x01\x00\x04\x63\x00\x00\x00")); err != nil {
		t.Fatal(err)
	}
	for _, nc := range []net.Conn{dawdles, lies} {
		mustBeClosed(t, "one without a handshake", nc)
	}
	for _, line := range []string{
		`why="maxclients of the door" addr=` + tooMany.LocalAddr() + ` limit=1 door=` + full,
		`why=tls-handshake-timeout addr=` + dawdles.LocalAddr().String() + ` door=`,
		`why="TLS handshake" addr=` + lies.LocalAddr().String() + ` door=`,
	} {
		line := regexp.MustCompile(`msg="client refused" ` + line)
		eventually(t, line.String()+"\n"+readLog(t, path), func() bool { return line.MatchString(readLog(t, path)) })
	}
}

// connectionNames are those of berth's connections to a node, without their host, sorted.
func connectionNames(t *testing.T, node *redistest.Server, auth ...any) (names []string) {
	t.Helper()
	host, _ := os.Hostname()
	for _, c := range nodeClients(t, node, auth...) {
		names = append(names, strings.Replace(c["name"], ":"+host+":", ":HOST:", 1))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// A node's CLIENT LIST says what berth's connections are for, whatever clients call themselves.
func TestANodesClientListNamesBerthsConnections(t *testing.T) {
	for _, user := range []string{"default", "named"} {
		t.Run(user, func(t *testing.T) {
			node := redistest.Start(t)
			setUsers(t, node, "named on >pw ~* &* +@all")
			b := startBerth(t, node.Addr())
			enter := func() *redistest.Conn {
				if user == "default" {
					return dial(t, b.Addr())
				}
				return loggedIn(t, b.Addr(), user)
			}
			c, listener, blocked := enter(), enter(), enter()
			if got := c.Do("CLIENT", "SETNAME", "mine"); got != "OK" {
				t.Fatal(got)
			}
			script(t, c, "GET k → <nil>", "WATCH k → OK", "CLIENT GETNAME → mine")
			listener.Do("SUBSCRIBE", "news")
			blocked.Send("BLPOP", "l", 0)
			b.awaitLeased(t, 2)
			want := []string{"berth:HOST:feed", "berth:HOST:lease", "berth:HOST:pipe"}
			got := slices.DeleteFunc(connectionNames(t, node), func(name string) bool { return name == "" || name == "berth:HOST:control" })
			if !slices.Equal(got, want) {
				t.Errorf("got %q", got)
			}
			script(t, c, "UNWATCH → OK", "CLIENT GETNAME → mine", "RESET → RESET")
			if name := c.Do("CLIENT", "GETNAME"); user == "default" && name != nil {
				t.Errorf("after RESET: %v", name)
			}
		})
	}
}

// Berth's own connection has a name as well, where it has to log in and where it has not.
func TestConnectionsOfBerthsOwnQuestionsHaveNames(t *testing.T) {
	for _, args := range [][]string{nil, {"--requirepass", "pw"}} {
		node := redistest.Start(t, args...)
		url, auth := "redis://"+node.Addr(), []any(nil)
		if args != nil {
			url, auth = "redis://:pw@"+node.Addr(), []any{"pw"}
		}
		watcher := dial(t, node.Addr())
		if auth != nil {
			watcher.Do("AUTH", "pw")
		}
		watcher.Do("MONITOR")
		startBerth(t, url)
		host, _ := os.Hostname()
		want := `"CLIENT" "SETNAME" "berth:` + host + `:control"`
		for !strings.Contains(fmt.Sprint(watcher.Recv()), want) { // the connection itself is gone soon
		}
	}
}

// Only nodes that know CLIENT SETINFO are told the library.
func TestNodesAreToldTheLibraryIfTheyKnowTheWords(t *testing.T) {
	for addr, want := range map[string]int{sharedNode(t).Addr(): 1, scriptedProduct(t, valkey9): 3} {
		b := startBerth(t, addr)
		if b.srv.isBefore(7, 2) != (want == 1) {
			continue // tests run over other servers, too
		}
		if said, replies := b.srv.nodes.Naming().Append(nil, "pipe"); replies != want {
			t.Errorf("%d commands: %q", replies, said)
		}
	}
}

// A user who may not name connections is served all the same, and the node's ACL LOG is not filled with
// what berth tries.
func TestUserWhoMayNotNameConnectionsIsServed(t *testing.T) {
	node := redistest.Start(t)
	setUsers(t, node, "u on >pw ~* &* +@all -client|setname")
	b := startBerth(t, node.Addr())
	c := loggedIn(t, b.Addr(), "u")
	for range 5 {
		script(t, c, "SET k v → OK", "WATCH k → OK", "UNWATCH → OK", "BLPOP l 0.001 → <nil>")
		for _, n := range nodeClients(t, node) {
			if n["user"] == "u" {
				node.Do(t, "CLIENT", "KILL", "ID", n["id"])
			}
		}
		eventually(t, "to be served again", func() bool { got, err := c.TryDo("GET", "k"); return err == nil && got == "v" })
	}
	times := int64(0)
	for _, entry := range node.Do(t, "ACL", "LOG").([]any) {
		if e := entry.([]any); e[7] == "client|setname" {
			times += e[1].(int64)
		}
	}
	if times == 0 || times > 3 { // connections that have begun before the first refusal
		t.Errorf("the node has refused a name %d times", times)
	}
}

// What berth closes because it does not need it is not lost: not in the metrics, and not as an error.
func TestAConnectionThatBerthClosesIsNotLost(t *testing.T) {
	node := redistest.Start(t)
	path := filepath.Join(t.TempDir(), "berth.log")
	useLog(t, path, config.LevelVerbose)
	b := startBerth(t, node.Addr(), "--loops", "1")
	c := dial(t, b.Addr())
	const times = 3
	for i := range times {
		script(t, c, "GET k → <nil>")
		c.Do("PROXY", "RECONNECT", node.Addr())
		eventually(t, "the pipe to be closed", func() bool { return b.figures(t).PipeStats.Retired > int64(i) })
	}
	script(t, c, "GET k → <nil>")
	if s := b.figures(t).PipeStats; s.Retired != times || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
	if err := b.figures(t).Pipes[node.Addr()].LastErr; err != nil {
		t.Errorf("the node has an error: %v", err)
	}
	log := readLog(t, path)
	if up := strings.Count(log, `level=verbose msg="pipe up" node=`+node.Addr()+" user=default db=0"); up != 1 || strings.Contains(log, "pipe down") {
		t.Errorf("%d lines say that the pipe is up:\n%s", up, log)
	}
}

// Fewer descriptors than maxclients needs are said at start, and CONFIG GET says how many clients there may
// be. The log is JSON, and has the line that says where berth is.
func TestTooFewDescriptorsAreSaidAtStart(t *testing.T) {
	dir := t.TempDir()
	logged, said := filepath.Join(dir, "berth.log"), filepath.Join(dir, "out")
	port := freePort(t)
	out, err := os.Create(said)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := exec.Command("sh", "-c", `ulimit -n 700; exec "$0" "$@"`, os.Args[0], "redis://"+sharedNode(t).Addr(), "--port", port,
		"--admin-port", "0", "--loops", "1", "--logfile", logged, "--log-format", "json", "--maxclients", "5000")
	cmd.Env = append(os.Environ(), runsBerth+"=yes")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	eventually(t, "berth to be ready", func() bool { return strings.Contains(readLog(t, said), "berth ready on ") })
	var lowered map[string]any
	ready := false
	eventually(t, "the log to say so", func() bool {
		for line := range strings.Lines(readLog(t, logged)) {
			var at map[string]any
			if err := json.Unmarshal([]byte(line), &at); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			if at["message"] == "maxclients lowered" {
				lowered = at
			}
			ready = ready || strings.HasPrefix(fmt.Sprint(at["message"]), "berth ready on 127.0.0.1:"+port)
		}
		return ready
	})
	if lowered["asked"] != 5000.0 || lowered["descriptors"] != 700.0 || lowered["level"] != "warning" {
		t.Fatalf("the log has %v", lowered)
	}
	c := dial(t, "127.0.0.1:"+port)
	possible := strconv.Itoa(int(lowered["possible"].(float64)))
	script(t, c, "CONFIG GET maxclients → [maxclients "+possible+"]", "CONFIG SET maxclients 7 → OK", "CONFIG GET MaxClients → [MaxClients 7]")
}
