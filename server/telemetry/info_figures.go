package telemetry

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// nodeFigures are the lines of one section of the nodes' INFO. Over several nodes, the lines of one
// name become one line.
type nodeFigures struct {
	join     joiner
	names    []string // in the order of the section
	values   map[string]string
	replicas int // of all nodes, lines about one each
}

// joiner makes one value of those of two nodes.
type joiner func(name, a, b string) string

// joinOf returns how the lines of a section are joined.
func joinOf(title string) joiner {
	switch title {
	case "Clients", "Memory", "Stats", "Replication", "CPU":
		return func(name, a, b string) string { return joinNumbers(a, b, orGreater(name, sum)) }
	case clusterSection:
		return func(name, a, b string) string {
			if strings.HasPrefix(name, "cluster_stats_") || strings.HasPrefix(name, "total_") {
				return joinNumbers(a, b, sum)
			}
			return joinNumbers(a, b, greater)
		}
	case "Persistence":
		return joinSaving
	case "Commandstats", "Errorstats", "Keyspace", "Keysizes", "Threads":
		return func(_, a, b string) string { return joinPairs(a, b, sum) }
	case "Latencystats":
		return func(_, a, b string) string { return joinPairs(a, b, greater) }
	}
	return func(_, a, _ string) string { return a } // what a node is: it stands for the others
}

func sum(a, b float64) float64     { return a + b }
func greater(a, b float64) float64 { return max(a, b) }
func less(a, b float64) float64    { return min(a, b) }

// orGreater returns greater for a share, a flag or the latest of something, else join.
func orGreater(name string, join func(a, b float64) float64) func(a, b float64) float64 {
	for _, end := range []string{"_ratio", "_perc", "_running", "_backlog_active", "latest_fork_usec"} {
		if strings.HasSuffix(name, end) {
			return greater
		}
	}
	if strings.HasPrefix(name, "client_recent_max_") {
		return greater
	}
	return join
}

// joinSaving joins what is said of saving: flags and times are the greatest of any node, but the
// last time that all nodes had saved is the least; what is counted is added.
func joinSaving(name, a, b string) string {
	join := greater
	switch {
	case name == "rdb_last_save_time":
		join = less
	case strings.HasSuffix(name, "_size"), strings.HasSuffix(name, "_bytes"), strings.HasSuffix(name, "_saves"),
		strings.HasSuffix(name, "_rewrites"), strings.HasPrefix(name, "rdb_changes_"), strings.Contains(name, "_keys_"):
		join = sum
	}
	return joinNumbers(a, b, join)
}

// joinNumbers joins two numbers, which may have a percent sign. Of words the first stands, unless
// it is "ok" and the other is not.
func joinNumbers(a, b string, join func(a, b float64) float64) string {
	x, percent := strings.CutSuffix(a, "%")
	n, errN := strconv.ParseFloat(x, 64)
	m, errM := strconv.ParseFloat(strings.TrimSuffix(b, "%"), 64)
	switch {
	case errN == nil && errM == nil:
		_, decimals, _ := strings.Cut(x, ".")
		joined := strconv.FormatFloat(join(n, m), 'f', len(decimals), 64)
		if percent {
			joined += "%"
		}
		return joined
	case a == "ok":
		return b
	}
	return a
}

// maxPairs is how long a line of pairs may be that is joined, in bytes.
const maxPairs = 4 << 10

// pair is a part of a line like "keys=2,expires=1,avg_ttl=60000".
type pair struct{ name, value string }

func readPairs(line string) (pairs []pair) {
	for field := range strings.SplitSeq(line, ",") {
		name, value, _ := strings.Cut(field, "=")
		pairs = append(pairs, pair{name, value})
	}
	return pairs
}

// joinPairs joins two lines of pairs. A mean is that of both nodes, weighed by how many each has.
func joinPairs(a, b string, join func(a, b float64) float64) string {
	if len(a)+len(b) > maxPairs {
		return a
	}
	first, second := readPairs(a), readPairs(b)
	joined := slices.Clone(first)
	for _, p := range second {
		i := slices.IndexFunc(joined, func(o pair) bool { return o.name == p.name })
		weight := map[string]string{"avg_ttl": "expires", "usec_per_call": "calls"}[p.name]
		switch {
		case i < 0:
			joined = append(joined, p)
		case weight != "":
			joined[i].value = mean(joined[i].value, number(first, weight), p.value, number(second, weight))
		default:
			joined[i].value = joinNumbers(joined[i].value, p.value, join)
		}
	}
	var line strings.Builder
	for i, p := range joined {
		if i > 0 {
			line.WriteByte(',')
		}
		line.WriteString(p.name + "=" + p.value)
	}
	return line.String()
}

// number returns the value of a pair; 0: there is none.
func number(pairs []pair, name string) float64 {
	for _, p := range pairs {
		if p.name == name {
			n, _ := strconv.ParseFloat(p.value, 64)
			return n
		}
	}
	return 0
}

// mean returns the mean of two means.
func mean(a string, weightA float64, b string, weightB float64) string {
	return joinNumbers(a, b, func(a, b float64) float64 {
		if weightA+weightB == 0 {
			return 0
		}
		return (a*weightA + b*weightB) / (weightA + weightB)
	})
}

// add adds the lines of one node. A line whose name comes twice (a module) is no number: it is kept
// as it is.
func (f *nodeFigures) add(lines []string) {
	if f == nil {
		return
	}
	seen, joined := map[string]bool{}, len(f.names) > 0
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		if isReplica(name) { // each node counts its own
			name = fmt.Sprintf("slave%d", f.replicas)
			f.replicas++
		}
		if seen[name] {
			name = line
		}
		seen[name] = true
		before, known := f.values[name]
		switch {
		case known && name != line:
			f.values[name] = f.join(name, before, value)
		case !known && len(f.names) < maxFigures:
			f.names = append(f.names, name)
			f.values[name] = value
		}
	}
	for _, name := range f.names { // 1.07M is made of the joined number
		if of, ok := strings.CutSuffix(name, "_human"); ok && joined {
			if n, err := strconv.ParseUint(f.values[of], 10, 64); err == nil {
				f.values[name] = humanBytes(n)
			}
		}
	}
}

// value returns the value of a name, "" if there is none.
func (f *nodeFigures) value(name string) string {
	if f == nil {
		return ""
	}
	return f.values[name]
}
