package clients

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

func TestRedisCliWorksUnchanged(t *testing.T) {
	onBoth(t, func(t *testing.T, b *berth) {
		t.Run("mass insert", b.massInsert)
		t.Run("surveys", b.surveys)
		t.Run("messages", b.messages)
		if b.kind == "cluster" {
			t.Run("--cluster", b.clusterTools)
		}
	})
}

// cli runs redis-cli and returns its output.
func (b *berth) cli(t *testing.T, input string, args ...string) string {
	t.Helper()
	return b.run(t, input, append(append([]string{"redis-cli"}, b.reach()...), args...)...)
}

// shell returns the beginning of a shell's command for redis-cli.
func (b *berth) shell() string { return "redis-cli " + strings.Join(b.reach(), " ") + " " }

// says fails the test unless the output of redis-cli matches all patterns and contains no error.
func says(t *testing.T, said string, patterns ...string) {
	t.Helper()
	said = regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(said, "") // colours
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(said) {
			t.Errorf("redis-cli does not print %q; it prints\n%s", p, said)
		}
	}
	if e := regexp.MustCompile(`(?m)^.*(\(error\)|ERR |Error).*$`).FindString(said); e != "" {
		t.Errorf("redis-cli prints the error %q in\n%s", e, said)
	}
}

const masses = 20000 // keys

func (b *berth) massInsert(t *testing.T) {
	var input strings.Builder
	for i := range masses {
		k := fmt.Sprintf("mass:%05d", i)
		fmt.Fprintf(&input, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$5\r\nvalue\r\n", len(k), k)
	}
	says(t, b.cli(t, input.String(), "--pipe"), fmt.Sprintf("^errors: 0, replies: %d$", masses))
	says(t, b.cli(t, "", "DBSIZE"), fmt.Sprintf("^%d$", masses))
	keys := strings.Fields(b.cli(t, "", "--scan", "--pattern", "mass:*7"))
	seen := map[string]bool{}
	for _, k := range keys {
		seen[k] = true
	}
	if len(keys) != masses/10 || len(seen) != masses/10 {
		t.Errorf("--scan found %d keys, %d different", len(keys), len(seen))
	}
}

func (b *berth) surveys(t *testing.T) {
	cli := b.shell()
	b.cli(t, "", "RPUSH", "biglist", "a", "b", "c")
	says(t, b.cli(t, "", "--bigkeys"),
		fmt.Sprintf(`^Sampled %d keys in the keyspace!$`, masses+1), `^Biggest +list found '"biglist"' has 3 items$`, `^1 lists with 3 items`)
	says(t, b.cli(t, "", "--memkeys"), `^Sampled \d+ keys in the keyspace!$`)
	// The nodes' maxmemory-policy is not LFU. Redis reports an error in this case, and berth must
	// too.
	hot := b.run(t, "", "sh", "-c", cli+"--hotkeys; true")
	if !strings.Contains(hot, "ERR An LFU maxmemory policy is not selected, access frequency not tracked.") {
		t.Errorf("--hotkeys: %s", hot)
	}
	stat := b.run(t, "", "sh", "-c", cli+"-i 0.01 --stat | head -4")
	says(t, stat, `^keys +mem +clients +blocked +requests +connections *$`, fmt.Sprintf(`^%d +\d`, masses+1))
	latency := b.run(t, "", "sh", "-c", cli+"-i 0.2 --latency --raw")
	says(t, latency, `^\d+ \d+ \d+\.\d+ \d+$`)
	says(t, b.cli(t, "", "-3", "HELLO"), `^proto 3$`)
	says(t, b.cli(t, "", "--json", "CONFIG", "GET", "maxclients"), `^{"maxclients":"\d+"}$`)
	says(t, b.cli(t, "return KEYS[1]", "--eval", "/dev/stdin", "somekey"), `^somekey$`)
	says(t, b.cli(t, "", "COMMAND", "DOCS", "GETEX"), `^Get the value of a key and optionally set its expiration$`)
	says(t, b.cli(t, "", "-r", "3", "INCR", "repeated"), `^3$`)
}

// messages runs redis-cli until it prints a published message, or until MONITOR prints a command.
func (b *berth) messages(t *testing.T) {
	key, cli := unique(t), b.shell()
	for _, listen := range []string{"SUBSCRIBE " + key, "PSUBSCRIBE " + key + "*", "SSUBSCRIBE " + key, "MONITOR"} {
		for _, protocol := range []string{"-2", "-3"} {
			say := "PUBLISH " + key + " hello"
			switch {
			case strings.HasPrefix(listen, "SSUB"):
				say = "SPUBLISH " + key + " hello"
			case listen == "MONITOR": // of a Cluster it shows one primary, and what berth answers itself
				say = "ECHO hello"
			}
			// grep ends after the first message. Then the loop that publishes must end too.
			loop := fmt.Sprintf("(while kill -0 $$ 2>/dev/null; do %s %s >/dev/null; done) & said=$!; "+
				"%s %s %s | grep -m1 hello; kill $said", cli, say, cli, protocol, listen)
			if said := b.run(t, "", "timeout", "60", "bash", "-c", loop); !strings.Contains(said, "hello") {
				t.Errorf("%s %s: %q", protocol, listen, said)
			}
		}
	}
}

func (b *berth) clusterTools(t *testing.T) {
	says(t, b.cli(t, "", "--cluster", "check", b.addr()),
		`^\[OK\] All nodes agree about slots configuration\.$`, `^\[OK\] All 16384 slots covered\.$`, `slots:\[0-16383\] \(16384 slots\) master`)
	says(t, b.cli(t, "", "--cluster", "info", b.addr()), `^\[OK\] \d+ keys in 1 masters\.$`)
	says(t, b.cli(t, "", "-c", "SET", "followed", "v"), `^OK$`)
}
