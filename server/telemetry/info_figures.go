package telemetry

import (
	"strconv"
	"strings"
)

// nodeFigures are the lines of one section of the nodes' INFO. The numbers of several nodes become
// one number. The first word that came stands for all nodes, unless it is "ok" and another is not.
type nodeFigures struct {
	names  []string // in the order of the section
	values map[string]string
}

// Added joins counters: the sum of all nodes.
func Added(a, b int64) int64 { return a + b }

// Greater joins flags: 1 if any node has 1.
func Greater(a, b int64) int64 { return max(a, b) }

// Add adds one node's section. join makes one number of two.
func (f *nodeFigures) Add(section string, join func(a, b int64) int64) {
	if f.values == nil {
		f.values = map[string]string{}
	}
	for line := range strings.Lines(section) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		before, known := f.values[name]
		if !known {
			f.names = append(f.names, name)
			f.values[name] = value
			continue
		}
		a, errA := strconv.ParseInt(before, 10, 64)
		b, errB := strconv.ParseInt(value, 10, 64)
		switch {
		case errA == nil && errB == nil:
			f.values[name] = strconv.FormatInt(join(a, b), 10)
		case before == "ok":
			f.values[name] = value
		}
	}
}

// linesOf writes the nodes' figures, without the ones that berth has written itself since begin.
func (r *infoReport) linesOf(f nodeFigures, begin int) {
	own := r.text.String()[begin:]
	for _, name := range f.names {
		if !strings.Contains(own, "\n"+name+":") {
			r.line(name, f.values[name])
		}
	}
}
