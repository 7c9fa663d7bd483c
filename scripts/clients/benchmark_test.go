package clients

import (
	"regexp"
	"strings"
	"testing"
)

func TestRedisBenchmarkWorksUnchanged(t *testing.T) {
	onBoth(t, func(t *testing.T, b *berth) {
		for _, options := range []string{
			"-n 500", "-n 1000 -P 16", "-n 2000 -P 16 --threads 2 -t get,set,mset", "-n 2000 -3 -t get,lpush,mset", "-n 500 -k 0 -c 10 -t get",
			"-n 2000 --dbnum 1 -t get,set",
		} {
			if b.kind == "cluster" && strings.Contains(options, "--dbnum") {
				continue // a Redis Cluster has no second database
			}
			t.Run(options, func(t *testing.T) { b.benchmark(t, options) })
		}
	})
}

// benchmark runs redis-benchmark. It fails the test unless each test of redis-benchmark ends with a
// rate and without an error.
func (b *berth) benchmark(t *testing.T, options string) {
	line := append([]string{"redis-benchmark", "-q", "-r", "1000"}, b.reach()...)
	said := strings.ReplaceAll(b.run(t, "", append(line, strings.Fields(options)...)...), "\r", "\n")
	if e := regexp.MustCompile(`(?im)^.*(error|ERR |WARNING: Could not).*$`).FindString(said); e != "" {
		t.Errorf("redis-benchmark says %q", e)
	}
	tests := 20 // without -t, redis-benchmark runs all of its tests
	if _, named, ok := strings.Cut(options, "-t "); ok {
		named, _, _ = strings.Cut(named, " ")
		tests = strings.Count(named, ",") + 1
	}
	if n := strings.Count(said, "requests per second"); n != tests {
		t.Errorf("%d of %d tests ended:\n%s", n, tests, said)
	}
}
