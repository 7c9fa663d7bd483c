package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// Programs that monitor Redis (redis_exporter, RedisInsight, Datadog's check) read the same figures
// through berth: over several nodes their sum, or the worst of them. scripts/acceptance exporter runs
// the first of these programs.

// watchedNodes are nodes that have been through what leaves traces.
func watchedNodes(t *testing.T, b *berthServer, primaries []*redistest.Server) *redistest.Conn {
	t.Helper()
	c := dial(t, b.Addr())
	for i := range 60 {
		key := fmt.Sprint("watched:", i)
		c.Do("SET", key, "v", "EX", 1000+i)
		c.Do("GET", key)
		c.Do("LPUSH", key, "x") // WRONGTYPE
		c.Do("GET", key+":none")
	}
	for i, node := range primaries {
		node.Do(t, "CONFIG", "SET", "latency-monitor-threshold", 1, "slowlog-log-slower-than", 5000)
		node.Do(t, "DEBUG", "SLEEP", fmt.Sprintf("0.0%d", i+1))
		node.Do(t, "CONFIG", "SET", "slowlog-log-slower-than", -1)
	}
	return c
}

// watchOver runs a test over one primary with a replica, and over a Cluster of three with one each.
func watchOver(
	t *testing.T, run func(t *testing.T, c *redistest.Conn, primaries []*redistest.Server, cluster bool),
) {
	debug := []string{"--enable-debug-command", "yes"}
	t.Run("one node", func(t *testing.T) {
		node := redistest.Start(t, debug...)
		redistest.Start(t, "--replicaof", "127.0.0.1 "+fmt.Sprint(node.Port()))
		eventually(t, "the replica to be there", func() bool {
			return strings.Contains(text(node.Do(t, "INFO", "replication")), "state=online")
		})
		primaries := []*redistest.Server{node}
		run(t, watchedNodes(t, startBerth(t, node.Addr()), primaries), primaries, false)
	})
	t.Run("cluster", func(t *testing.T) {
		cl := redistest.StartCluster(t, 3, 1, debug...)
		var primaries []*redistest.Server
		for i := range cl.Primaries() {
			primaries = append(primaries, cl.Node(i))
		}
		run(t, watchedNodes(t, startBerth(t, clusterURL(cl)), primaries), primaries, true)
	})
}

// sums are figures of INFO that over several nodes are added, worsts those of which the greatest is
// said, all of them at rest.
var (
	sums = strings.Fields("keyspace_hits keyspace_misses expired_keys evicted_keys rdb_changes_since_last_save connected_slaves " +
		"maxmemory total_system_memory number_of_cached_scripts")
	pairSums = strings.Fields("cmdstat_set:calls cmdstat_get:calls cmdstat_lpush:failed_calls cmdstat_set:usec errorstat_WRONGTYPE:count " +
		"db0:keys db0:expires")
	pairWorsts = strings.Fields("latency_percentiles_usec_set:p50 latency_percentiles_usec_set:p99.9 latency_percentiles_usec_lpush:p99")
)

// inPair returns a value of a line like "keys=3,expires=1".
func inPair(line, name string) float64 {
	m := regexp.MustCompile(`(?:^|,)` + regexp.QuoteMeta(name) + `=([\d.]+)`).FindStringSubmatch(line)
	if m == nil {
		return -1
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return n
}

func TestInfoHasWhatWatchesRedisReads(t *testing.T) {
	parallel(t)
	watchOver(t, func(t *testing.T, c *redistest.Conn, primaries []*redistest.Server, _ bool) {
		got, _ := infoOf(t, c, "everything")
		var nodes []map[string]string
		for _, node := range primaries {
			said, _ := infoOf(t, dial(t, node.Addr()), "everything")
			nodes = append(nodes, said)
			for name := range said {
				if _, has := got[name]; !has && !strings.HasPrefix(name, "cmdstat_") && !strings.HasPrefix(name, "latency_percentiles_") {
					t.Errorf("INFO has no %s", name)
				}
			}
		}
		check := func(name string, value func(info map[string]string) float64, join func(a, b float64) float64) {
			want := value(nodes[0])
			for _, node := range nodes[1:] {
				want = join(want, value(node))
			}
			if of := value(got); want < 0 || of != want {
				t.Errorf("%s is %v, want %v", name, of, want)
			}
		}
		add := func(a, b float64) float64 { return a + b }
		worst := func(a, b float64) float64 { return max(a, b) }
		for _, name := range sums {
			check(name, func(info map[string]string) float64 { return inPair("is="+info[name], "is") }, add)
		}
		for i, pair := range append(slices.Clone(pairSums), pairWorsts...) {
			line, name, _ := strings.Cut(pair, ":")
			join := add
			if i >= len(pairSums) {
				join = worst
			}
			check(pair, func(info map[string]string) float64 { return inPair(info[line], name) }, join)
		}
		for _, section := range []string{"commandstats", "latencystats", "errorstats", "keyspace"} {
			if alone, _ := infoOf(t, c, section); len(alone) == 0 {
				t.Errorf("INFO %s is empty", section)
			}
		}
		for i := range primaries {
			if line := got[fmt.Sprint("slave", i)]; !strings.Contains(line, "state=online") {
				t.Errorf("slave%d:%s", i, line)
			}
		}
	})
}

// slowest is how long the slowest command took, in milliseconds, says LATENCY LATEST.
func slowest(latest any) int64 {
	for _, event := range latest.([]any) {
		if e := event.([]any); e[0] == "command" {
			return e[3].(int64)
		}
	}
	return 0
}

func TestReportsOfNodesAreThoseOfAllPrimaries(t *testing.T) {
	parallel(t)
	watchOver(t, func(t *testing.T, c *redistest.Conn, primaries []*redistest.Server, cluster bool) {
		var slow, worst int64
		for _, node := range primaries {
			slow += node.Do(t, "SLOWLOG", "LEN").(int64)
			worst = max(worst, slowest(node.Do(t, "LATENCY", "LATEST")))
		}
		if got := c.Do("SLOWLOG", "LEN"); got != slow || slow < int64(len(primaries)) {
			t.Errorf("%v slow commands, want %d", got, slow)
		}
		if latest := c.Do("LATENCY", "LATEST"); slowest(latest) != worst || worst < 1 {
			t.Errorf("LATENCY LATEST: %v, want %d", latest, worst)
		}
		for _, resp := range []int{2, 3} { // names of maps are printed as those of arrays
			c.Do("HELLO", resp)
			if got := text(c.Do("LATENCY", "HISTOGRAM", "set")); !regexp.MustCompile(`^\[set \[calls 60 histogram_usec \[.* 60\]\]\]$`).MatchString(got) {
				t.Errorf("LATENCY HISTOGRAM: %s", got)
			}
			if got := text(c.Do("MEMORY", "STATS")); !strings.Contains(got, " keys.count 60 ") {
				t.Errorf("MEMORY STATS: %s", got)
			}
		}
		c.Do("HELLO", 2)
		for _, want := range strings.Fields("cluster_known_nodes:6 cluster_size:3 cluster_stats_messages_ping_sent:") {
			if got := text(c.Do("CLUSTER", "INFO")); cluster && !strings.Contains(got, want) {
				t.Errorf("CLUSTER INFO without %s: %s", want, got)
			}
		}
		theirs := dial(t, primaries[0].Addr())
		settings := c.Do("CONFIG", "GET", "*").([]any)
		for i, name := range theirs.Do("CONFIG", "GET", "*").([]any) {
			if i%2 == 0 && !slices.Contains(settings, name) {
				t.Errorf("CONFIG GET * has no %s", name)
			}
		}
		clients := text(c.Do("CLIENT", "LIST"))
		for _, field := range regexp.MustCompile(`[a-z-]+=`).FindAllString(text(theirs.Do("CLIENT", "LIST")), -1) {
			if !strings.Contains(clients, field) {
				t.Errorf("CLIENT LIST has no %s", field)
			}
		}
	})
}
