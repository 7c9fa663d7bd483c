package main

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// valkey9 is what a Valkey 9.1 in another zone says of itself, with a module and commands that
// Redis does not have.
var valkey9 = map[string]string{
	"PING": "+PONG\r\n",
	"INFO server": infoReply("# Server", "redis_version:7.2.4", "server_name:valkey", "valkey_version:9.1.2", "valkey_release_stage:ga",
		"redis_build_id:9108e8f1788612b", "server_mode:standalone", "process_id:1", "run_id:node", "tcp_port:1", "executable:node",
		"io_threads_active:0", "availability_zone:eu-1a", "listener0:name=tcp,bind=10.0.0.1,port=1"),
	"INFO clients": infoReply("# Clients", "maxclients:1000"),
	"INFO clients replication cluster": infoReply("# Clients", "maxclients:1000", "", "# Replication", "role:master", "", "# Cluster",
		"cluster_enabled:0"),
	"INFO modules": infoReply("# Modules", "module:name=lua,ver=1,api=1", "module:name=other,ver=2,api=1"),
	"HELLO 2": "*16\r\n+server\r\n+valkey\r\n+version\r\n+9.1.2\r\n+proto\r\n:2\r\n+id\r\n:4\r\n+mode\r\n+standalone\r\n+role\r\n+master\r\n" +
		"+modules\r\n*1\r\n*8\r\n+name\r\n+lua\r\n+ver\r\n:1\r\n+path\r\n+lua\r\n+args\r\n*1\r\n+a\r\n+availability_zone\r\n+eu-1a\r\n",
	"COMMAND":    "*0\r\n",
	"INFO berth": "$0\r\n\r\n",

	// The questions whether a user may run what berth answers.
	"CLIENT SETINFO berth berth": badSyntax, "CLIENT NO-TOUCH berth": badSyntax, "CLIENT NO-EVICT berth": badSyntax,
	"CLIENT CAPA berth": "+OK\r\n", "CLIENT IMPORT-SOURCE off": "+OK\r\n", "READONLY": "+OK\r\n", "READWRITE": "+OK\r\n",
	"ASKING": "-" + errNoCluster + "\r\n", "CLIENT TRACKING berth": badSyntax, "CLIENT LIST TYPE berth": allRight,
	"CLIENT SETNAME \n": badSyntax, "CLIENT ID": ":1\r\n", "MULTI": "+OK\r\n", "EXEC": "*0\r\n", "CLIENT KILL TYPE berth": allRight,
}

const (
	badSyntax = "-ERR syntax error\r\n"
	allRight  = "-ERR Unknown client type 'berth'\r\n" // to words before it that are right
)

func infoReply(lines ...string) string {
	text := strings.Join(lines, "\r\n") + "\r\n"
	return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text)
}

// scriptedProduct is a node that answers the questions of a map, and refuses all others.
func scriptedProduct(t *testing.T, says map[string]string) (addr string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			go answerByMap(nc, says)
		}
	}()
	return ln.Addr().String()
}

func answerByMap(nc net.Conn, says map[string]string) {
	defer nc.Close()
	in := bufio.NewReader(nc)
	for {
		words, err := readWords(in)
		if err != nil {
			return
		}
		reply, ok := says[strings.Join(words, " ")]
		if !ok {
			reply = "-ERR unknown command\r\n"
		}
		if _, err := nc.Write([]byte(reply)); err != nil {
			return
		}
	}
}

func TestHelloIsThatOfTheProduct(t *testing.T) {
	parallel(t)
	c := dial(t, startBerth(t, scriptedProduct(t, valkey9)).Addr())
	for _, resp := range []int{2, 3} {
		got := strings.ReplaceAll(c.DoRaw("HELLO", resp), fmt.Sprintf("id\r\n:%d\r\n", c.Do("CLIENT", "ID")), "id\r\n:4\r\n")
		pairs, module := "*16", "*8"
		if resp == 3 {
			pairs, module = "%8", "%4"
		}
		want := pairs + "\r\n" + bulks("server", "valkey", "version", "9.1.2", "proto") + fmt.Sprintf(":%d\r\n", resp) + bulks("id") + ":4\r\n" +
			bulks("mode", "standalone", "role", "master", "modules") + "*1\r\n" + module + "\r\n" + bulks("name", "lua", "ver") + ":1\r\n" +
			bulks("path", "lua", "args") + "*1\r\n" + bulks("a", "availability_zone", "eu-1a")
		if got != want {
			t.Errorf("RESP%d:\n got %q\nwant %q", resp, got, want)
		}
	}
}

// Before Redis 7.0 a node takes one section of INFO, and refuses several.
func TestNodeThatTakesOneSectionOfInfoIsAskedForEach(t *testing.T) {
	parallel(t)
	says := maps.Clone(valkey9)
	delete(says, "INFO clients replication cluster")
	says["INFO replication"] = infoReply("# Replication", "role:odd")
	says["INFO cluster"] = infoReply("# Cluster", "cluster_enabled:0")
	b := startBerth(t, scriptedProduct(t, says))
	if got := b.srv.nodes.Info(); got.MaxClients != 1000 || got.Role != "odd" {
		t.Errorf("%d clients, role %s", got.MaxClients, got.Role)
	}
}

// What a node says of its modules does not decide where a reply ends.
func TestModuleFieldWithoutAValueDoesNotBreakHello(t *testing.T) {
	parallel(t)
	says := maps.Clone(valkey9)
	says["HELLO 2"] = "*2\r\n" + bulks("modules") + "*1\r\n*3\r\n" + bulks("name", "lua", "odd")
	c := dial(t, startBerth(t, scriptedProduct(t, says)).Addr())
	if got, want := c.DoRaw("HELLO", 2), "*2\r\n"+bulks("modules")+"*1\r\n*2\r\n"+bulks("name", "lua"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	script(t, c, "ECHO next → next")
}

// bulks writes words as bulk strings.
func bulks(words ...string) string {
	var b strings.Builder
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b.String()
}

func TestInfoNamesTheProductAndSpeaksOfBerthsProcess(t *testing.T) {
	parallel(t)
	b := startBerth(t, scriptedProduct(t, valkey9))
	c := dial(t, b.Addr())
	lines := strings.Split(c.Do("INFO", "server").(string), "\r\n")
	var names []string
	for _, line := range lines[1:] {
		name, _, _ := strings.Cut(line, ":")
		names = append(names, name)
	}
	if got, want := strings.Join(names, " "), "redis_version server_name valkey_version valkey_release_stage redis_build_id server_mode process_id "+
		"run_id tcp_port executable io_threads_active availability_zone listener0 berth_version berth_revision berth_chain go_version "; got != want {
		t.Errorf("fields\n %s, want\n %s", got, want)
	}
	port := b.Addr()[strings.LastIndexByte(b.Addr(), ':')+1:]
	for _, line := range []string{
		"server_name:valkey", "valkey_version:9.1.2", "redis_version:7.2.4", "availability_zone:eu-1a", "server_mode:standalone",
		"listener0:name=tcp,bind=127.0.0.1,port=" + port, "tcp_port:" + port, "run_id:" + runID,
	} {
		if !slices.Contains(lines, line) {
			t.Errorf("%q is not among %q", line, lines)
		}
	}
	if got, want := c.Do("INFO", "modules"), "# Modules\r\nmodule:name=lua,ver=1,api=1\r\nmodule:name=other,ver=2,api=1\r\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestHelloAndInfoAreThoseOfTheNode(t *testing.T) {
	parallel(t)
	node := redistest.Start(t)
	b := startBerth(t, node.Addr())
	ours, theirs := dial(t, b.Addr()), dial(t, node.Addr())
	for _, resp := range []int{3, 2} {
		got, want := ours.DoRaw("HELLO", resp), theirs.DoRaw("HELLO", resp)
		got = strings.Replace(got, fmt.Sprintf("id\r\n:%d\r\n", ours.Do("CLIENT", "ID")), "id\r\n:0\r\n", 1)
		want = strings.Replace(want, fmt.Sprintf("id\r\n:%d\r\n", theirs.Do("CLIENT", "ID")), "id\r\n:0\r\n", 1)
		if got != want {
			t.Errorf("HELLO %d:\n got %q\nwant %q", resp, got, want)
		}
	}
	if got, want := ours.Do("INFO", "modules"), theirs.Do("INFO", "modules"); got != want {
		t.Errorf("INFO modules: %q, want %q", got, want)
	}
	for name := range infoFieldsOf(t, theirs, "server") {
		if _, ok := infoFieldsOf(t, ours, "server")[name]; !ok {
			t.Errorf("INFO server has no %s", name)
		}
	}
}

func infoFieldsOf(t *testing.T, c *redistest.Conn, section string) map[string]string {
	t.Helper()
	fields, _ := infoOf(t, c, section)
	return fields
}
