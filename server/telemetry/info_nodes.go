package telemetry

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/router"
)

// Bounds of what is kept of the nodes' INFO: a node may say anything, and a script makes up the
// first words of errors.
const (
	maxSections = 64   // of all nodes
	maxFigures  = 4096 // lines of a section, of all nodes
)

// NodesSaid is what the nodes have said to INFO: the sections of one node, or of several joined.
type NodesSaid struct {
	Embedded bool     // there are no nodes: the store is in this process
	titles   []string // in the order in which they came
	sections map[string]*nodeFigures
}

// Take adds the reply of one node.
func (n *NodesSaid) Take(text string) {
	if n.sections == nil { // it stays so while no node has answered
		n.sections = map[string]*nodeFigures{}
	}
	var lines []string
	title := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		next, begins := strings.CutPrefix(line, "# ")
		switch {
		case begins:
			n.section(title).add(lines)
			title, lines = next, nil
			n.open(title)
		case strings.Contains(line, ":") && len(lines) < maxFigures:
			lines = append(lines, line)
		}
	}
	n.section(title).add(lines)
}

// open makes room for a section.
func (n *NodesSaid) open(title string) {
	if n.sections[title] == nil && len(n.titles) < maxSections {
		n.titles = append(n.titles, title)
		n.sections[title] = &nodeFigures{join: joinOf(title), values: map[string]string{}}
	}
}

// TakeSize adds the number of keys in database 0. The embedded backend can say no more.
func (n *NodesSaid) TakeSize(text string) {
	if text != "0" {
		n.Take("# Keyspace\ndb0:keys=" + text + ",expires=0,avg_ttl=0\n")
	}
}

// clusterSection is where the replies to CLUSTER INFO are joined; no node has such a section.
const clusterSection = "CLUSTER INFO"

// TakeCluster adds one node's reply to CLUSTER INFO.
func (n *NodesSaid) TakeCluster(text string) { n.Take("# " + clusterSection + "\r\n" + text) }

// ClusterInfo returns CLUSTER INFO: served slots have a primary, and the rest is as the nodes say.
// Without a node it is a Cluster of one.
func (n *NodesSaid) ClusterInfo(served int) string {
	state := "ok"
	if served < router.Slots {
		state = "fail"
	}
	if n.section(clusterSection) == nil {
		n.TakeCluster("cluster_state:\ncluster_slots_assigned:0\ncluster_slots_ok:0\ncluster_slots_pfail:0\ncluster_slots_fail:0\n" +
			"cluster_known_nodes:1\ncluster_size:1\ncluster_current_epoch:1\ncluster_my_epoch:1\ncluster_stats_messages_sent:0\n" +
			"cluster_stats_messages_received:0\ntotal_cluster_links_buffer_limit_exceeded:0\n")
	}
	r := &infoReport{nodes: n}
	r.merge(clusterSection, figure{"cluster_state", state}, figure{"cluster_slots_assigned", served}, figure{"cluster_slots_ok", served})
	return r.text.String()
}

// section returns a section, nil if no node has it.
func (n *NodesSaid) section(title string) *nodeFigures { return n.sections[title] }

// nodeCall is how often a command was called, how long all the calls took, and how many of them
// were refused or failed.
type nodeCall struct{ calls, usec, rejected, failed int64 }

// readCall reads the fields of a command:
// "calls=2,usec=6,usec_per_call=3.00,rejected_calls=0,failed_calls=0".
func readCall(fields string) (c nodeCall) {
	for field := range strings.SplitSeq(fields, ",") {
		what, text, _ := strings.Cut(field, "=")
		value, _ := strconv.ParseInt(text, 10, 64)
		switch what {
		case "calls":
			c.calls = value
		case "usec":
			c.usec = value
		case "rejected_calls":
			c.rejected = value
		case "failed_calls":
			c.failed = value
		}
	}
	return c
}

// instead returns the fields of a command that berth has counted itself. How long a call takes the
// nodes say.
func (c nodeCall) instead(own commandStats) nodeCall {
	calls := own.ok + own.failed - own.rejected
	return nodeCall{
		calls: calls, usec: int64(float64(calls) * c.perCall()), rejected: own.rejected, failed: own.failed - own.rejected,
	}
}

func (c nodeCall) perCall() float64 {
	if c.calls == 0 {
		return 0
	}
	return float64(c.usec) / float64(c.calls)
}

// fields returns the fields in the form of the nodes. old nodes, before Redis 6.2, do not tell
// which calls were refused or failed.
func (c nodeCall) fields(old bool) string {
	text := fmt.Sprintf("calls=%d,usec=%d,usec_per_call=%.2f", c.calls, c.usec, c.perCall())
	if old {
		return text
	}
	return fmt.Sprintf("%s,rejected_calls=%d,failed_calls=%d", text, c.rejected, c.failed)
}
