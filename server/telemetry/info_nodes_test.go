package telemetry

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// said returns what nodes have said to INFO.
func said(texts ...string) *NodesSaid {
	n := &NodesSaid{}
	for _, text := range texts {
		n.Take(strings.ReplaceAll(text, "\n", "\r\n"))
	}
	return n
}

func TestLinesOfSeveralNodesBecomeOne(t *testing.T) {
	n := said(`# Memory
used_memory:1024
used_memory_human:1.00K
used_memory_peak_perc:97.50%
mem_fragmentation_ratio:1.25
mem_allocator:jemalloc-5.3.0

# CPU
used_cpu_sys:0.250000

# Persistence
loading:0
rdb_last_save_time:100
rdb_last_bgsave_status:ok
rdb_changes_since_last_save:7

# Keyspace
db0:keys=10,expires=1,avg_ttl=1000
db3:keys=1,expires=0,avg_ttl=0

# Commandstats
cmdstat_get:calls=2,usec=10,usec_per_call=5.00,rejected_calls=0,failed_calls=1

# Latencystats
latency_percentiles_usec_get:p50=1.003,p99=9.023

# Modules
module:name=a,ver=1
module:name=b,ver=1
`, `# Memory
used_memory:2048
used_memory_human:2.00K
used_memory_peak_perc:99.00%
mem_fragmentation_ratio:0.90
mem_allocator:libc

# CPU
used_cpu_sys:0.500000

# Persistence
loading:1
rdb_last_save_time:90
rdb_last_bgsave_status:err
rdb_changes_since_last_save:3

# Keyspace
db0:keys=5,expires=3,avg_ttl=5000

# Commandstats
cmdstat_get:calls=2,usec=20,usec_per_call=10.00,rejected_calls=0,failed_calls=0

# Latencystats
latency_percentiles_usec_get:p50=2.007,p99=3.007

# Modules
module:name=a,ver=1
module:name=b,ver=1
`)
	for _, want := range []string{
		"Memory used_memory:3072 used_memory_human:3.00K used_memory_peak_perc:99.00% mem_fragmentation_ratio:1.25 mem_allocator:jemalloc-5.3.0",
		"CPU used_cpu_sys:0.750000",
		"Persistence loading:1 rdb_last_save_time:90 rdb_last_bgsave_status:err rdb_changes_since_last_save:10",
		"Keyspace db0:keys=15,expires=4,avg_ttl=4000 db3:keys=1,expires=0,avg_ttl=0",
		"Commandstats cmdstat_get:calls=4,usec=30,usec_per_call=7.50,rejected_calls=0,failed_calls=1",
		"Latencystats latency_percentiles_usec_get:p50=2.007,p99=9.023",
		"Modules module:name=a,ver=1 module:name=b,ver=1",
	} {
		title, lines, _ := strings.Cut(want, " ")
		r := &infoReport{nodes: n}
		r.merge(title)
		if got := strings.TrimSpace(strings.ReplaceAll(r.text.String(), "\r\n", " ")); got != lines {
			t.Errorf("%s has %s, want %s", title, got, lines)
		}
	}
}

// Clients find the lines of both sections in one heap, so berth's own must have names of their own.
func TestLinesOfTheProxyHaveNamesThatNoNodeHas(t *testing.T) {
	snap := filledSnapshot(t)
	text := snap.Info(Sections{"Proxy": true, "Pools": true}, said("# Proxy\nready:no\n"))
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		name, _, isField := strings.Cut(line, ":")
		if isField && (seen[name] || slices.Contains([]string{"used_memory", "used_cpu_sys", "total_commands_processed"}, name)) {
			t.Errorf("%q is in %s", line, text)
		}
		seen[name] = true
	}
	if !seen["proxy_used_memory"] || strings.Contains(text, "ready:no") {
		t.Error(text)
	}
}

func TestWhatNodesSayIsBounded(t *testing.T) {
	var long, many strings.Builder
	long.WriteString("# Errorstats\n")
	for i := range 2 * maxFigures {
		fmt.Fprintf(&long, "errorstat_%d:count=1\n", i)
		fmt.Fprintf(&many, "# %d\na:1\n", i)
	}
	n := said(long.String()+"# Keyspace\ndb0:keys=1,expires=0,avg_ttl=0\n", many.String(), strings.ReplaceAll(long.String(), "_", "__"))
	if got := len(n.section("Errorstats").names); got != maxFigures || len(n.titles) != maxSections {
		t.Errorf("%d lines, %d sections", got, len(n.titles))
	}
	if n.section("Keyspace").value("db0") == "" {
		t.Error("the section after many lines is lost")
	}
}

func TestCallsThatBerthCountsHaveTheNodesDuration(t *testing.T) {
	call := readCall("calls=4,usec=30,usec_per_call=7.50,rejected_calls=9,failed_calls=9")
	for _, v := range []struct {
		old  bool
		of   nodeCall
		want string
	}{
		{false, call, "calls=4,usec=30,usec_per_call=7.50,rejected_calls=9,failed_calls=9"},
		{false, call.instead(commandStats{ok: 3, failed: 3, rejected: 2}), "calls=4,usec=30,usec_per_call=7.50,rejected_calls=2,failed_calls=1"},
		{false, call.instead(commandStats{failed: 2, rejected: 2}), "calls=0,usec=0,usec_per_call=0.00,rejected_calls=2,failed_calls=0"},
		{false, nodeCall{}.instead(commandStats{ok: 1}), "calls=1,usec=0,usec_per_call=0.00,rejected_calls=0,failed_calls=0"},
		{true, call.instead(commandStats{ok: 2}), "calls=2,usec=15,usec_per_call=7.50"},
	} {
		if got := v.of.fields(v.old); got != v.want {
			t.Errorf("%+v: %s, want %s", v.of, got, v.want)
		}
	}
}

// CLIENT PAUSE is berth's, where a node has lines about it. One that stops all commands stops INFO.
func TestInfoHasThePauseOfBerth(t *testing.T) {
	snap := filledSnapshot(t)
	snap.Berth.Paused, snap.Berth.PauseLeft = "write", 3*time.Second
	for said, want := range map[*NodesSaid]bool{
		said("# Clients\npaused_reason:none\npaused_actions:none\npaused_timeout_milliseconds:0\n"): true,
		said("# Clients\nconnected_clients:7\n"):                                                    false,
	} {
		text := snap.Info(Sections{}, said)
		if strings.Contains(text, "paused_reason:client_pause\r\npaused_actions:write\r\npaused_timeout_milliseconds:3000\r\n") != want {
			t.Error(text)
		}
	}
}

// A node may say anything: what comes of it is lines, and not many more bytes than it said.
func FuzzInfoOfNodesIsLines(f *testing.F) {
	f.Add("# Commandstats\r\ncmdstat_get:calls=nan,usec=inf,usec_per_call=nan,rejected_calls=-9,failed_calls=x\r\n", "# Keyspace\r\ndb0:keys=nan,expires=-inf,avg_ttl=1e308\r\n")
	f.Add("# Memory\r\nused_memory:nan\r\nused_memory:1e308\r\nused_memory_human:x\r\n", "# Memory\r\nused_memory:-1e308\r\n# Errorstats\r\nerrorstat_A:count=9223372036854775807\r\n")
	f.Add("# Stats\r\nx_ratio:99999999999999999999999999999\r\n:\r\n::\r\n#\r\n# \r\n: \r\n", "# Latencystats\r\nlatency_percentiles_usec_get:p50=nan,p99=1,\x00\xff\r\n")
	f.Add("# Replication\r\nrole:slave\r\nslave0:a=1\r\nslavex:3\r\n# Cluster\r\n# Modules\r\nmodule:name=x\r\n", "# Clients\r\npaused_reason:x\r\nconnected_clients:\r\n")
	f.Fuzz(func(t *testing.T, one, other string) {
		if len(one)+len(other) > 1<<16 {
			return
		}
		var said NodesSaid
		said.Take(one)
		said.Take(other)
		report := filledSnapshot(t).Info(ReadSections([][]byte{[]byte("everything")}), &said)
		for line := range strings.SplitSeq(strings.TrimSuffix(report, "\r\n"), "\r\n") {
			if line != "" && !strings.HasPrefix(line, "# ") && !strings.Contains(line, ":") {
				t.Fatalf("%q is no line of INFO", line)
			}
		}
		if most := 16*(len(one)+len(other)) + 1<<15; len(report) > most {
			t.Fatalf("%d bytes of %d", len(report), len(one)+len(other))
		}
	})
}
