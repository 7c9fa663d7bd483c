package telemetry

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/router"
	"github.com/berth-proxy/berth/server/build"
)

// infoSection is a section of INFO in which berth has a word.
type infoSection struct {
	title string // its name in lower case asks for it
	rare  bool   // only when asked for, by name or by all
	ours  bool   // no node has it
	write func(r *infoReport)
}

// infoSections are the sections that there are without a node, in the order of Redis, berth's own
// after them. A node may have more, and another order.
var infoSections = []infoSection{
	{title: "Server", write: (*infoReport).server},
	{title: "Clients", write: (*infoReport).clients},
	{title: "Memory", write: (*infoReport).memory},
	{title: "Persistence", write: (*infoReport).persistence},
	{title: "Stats", write: (*infoReport).stats},
	{title: "Replication", write: (*infoReport).replication},
	{title: "CPU", write: (*infoReport).cpu},
	{title: "Modules", write: (*infoReport).modules},
	{title: "Commandstats", rare: true, write: (*infoReport).commandStats},
	{title: "Errorstats", write: (*infoReport).errorStats},
	{title: "Cluster", write: (*infoReport).cluster},
	{title: "Keyspace", write: (*infoReport).keyspace},
	{title: "Proxy", ours: true, write: (*infoReport).proxy},
	{title: "Pools", ours: true, write: (*infoReport).pools},
}

// Sections are the titles of the sections that a client has asked for, of those that berth knows.
type Sections map[string]bool

// ReadSections reads the words after INFO.
func ReadSections(words [][]byte) Sections {
	wanted := Sections{}
	if len(words) == 0 {
		words = [][]byte{[]byte("default")}
	}
	for _, word := range words {
		name := string(bytes.ToLower(word))
		for _, section := range infoSections {
			switch {
			case name == "all", name == "everything", name == "default" && !section.rare, name == strings.ToLower(section.title):
				wanted[section.title] = true
			}
		}
	}
	return wanted
}

// AskNodes reports whether the words may ask for a section that nodes have.
func AskNodes(words [][]byte) bool {
	return len(words) == 0 || slices.ContainsFunc(words, func(word []byte) bool {
		name := string(bytes.ToLower(word))
		return name != "proxy" && name != "pools"
	})
}

// infoReport is one INFO reply being written.
type infoReport struct {
	*Snapshot
	nodes *NodesSaid
	text  strings.Builder
}

// Info returns INFO: the sections that the nodes have said, or without a node the wanted ones, and
// those of berth's own that are wanted.
func (s *Snapshot) Info(wanted Sections, said *NodesSaid) string {
	r := &infoReport{Snapshot: s, nodes: said}
	known := map[string]infoSection{}
	for _, section := range infoSections {
		known[section.title] = section
	}
	if !said.Embedded {
		for _, title := range said.titles {
			if !known[title].ours {
				r.section(title, known[title].write)
			}
		}
	}
	answered := said.sections != nil && !said.Embedded
	for _, section := range infoSections {
		if wanted[section.title] && (section.ours || !answered) {
			r.section(section.title, section.write)
		}
	}
	return r.text.String()
}

// section writes a section. write nil: it is the nodes' alone.
func (r *infoReport) section(title string, write func(r *infoReport)) {
	if r.text.Len() > 0 {
		r.text.WriteString("\r\n")
	}
	r.text.WriteString("# " + title + "\r\n")
	if write == nil {
		r.merge(title)
		return
	}
	write(r)
}

// line writes "name:value".
func (r *infoReport) line(name string, value any) {
	fmt.Fprintf(&r.text, "%s:%v\r\n", name, value)
}

// figure is a line that berth writes itself.
type figure struct {
	name  string
	value any
}

// merge writes the nodes' lines, but berth's own figures instead of the nodes' of the same name,
// and then the own figures that no node has.
func (r *infoReport) merge(title string, own ...figure) {
	said := r.nodes.section(title)
	if said == nil {
		said = &nodeFigures{}
	}
	named := func(name string) int { return slices.IndexFunc(own, func(f figure) bool { return f.name == name }) }
	for _, name := range said.names {
		switch i := named(name); {
		case i >= 0:
			r.line(name, own[i].value)
		case strings.Contains(name, ":"): // the whole line
			r.text.WriteString(name + "\r\n")
		default:
			r.line(name, said.values[name])
		}
	}
	for _, f := range own {
		if _, has := said.values[f.name]; !has {
			r.line(f.name, f.value)
		}
	}
}

// mode returns what berth is to its clients, in Redis' word.
func (r *infoReport) mode() string {
	if r.Berth.Sharded {
		return "cluster"
	}
	return "standalone"
}

// server writes the fields that the node has, in the node's order: what the product is the node
// says, what the process is berth says. berth's own fields follow.
func (r *infoReport) server() {
	own := r.identity()
	said := r.Berth.Server
	if said == nil {
		said = unsaid
	}
	for _, field := range said {
		switch value, ok := own[field.Name]; {
		case value == "" && field.Name == "redis_version": // berth does not make one up
		case ok:
			r.line(field.Name, value)
		case strings.HasPrefix(field.Name, "berth_") || field.Name == "go_version": // of a berth after this one
		case !strings.HasPrefix(field.Name, "listener"):
			r.line(field.Name, field.Value)
		}
	}
	r.line("berth_version", build.Version)
	r.line("berth_revision", build.Revision())
	r.line("berth_chain", r.Berth.Chain)
	r.line("go_version", runtime.Version())
}

// unsaid is the section of a node that does not say one.
var unsaid = []nodes.Field{
	{Name: "redis_version"}, {Name: "redis_git_sha1", Value: "00000000"}, {Name: "redis_git_dirty", Value: "0"}, {Name: "redis_mode"},
	{Name: "os"}, {Name: "arch_bits"}, {Name: "process_id"}, {Name: "process_supervised"}, {Name: "run_id"}, {Name: "tcp_port"},
	{Name: "server_time_usec"}, {Name: "uptime_in_seconds"}, {Name: "uptime_in_days"}, {Name: "hz"}, {Name: "configured_hz"},
	{Name: "executable"}, {Name: "config_file"},
}

// identity returns the fields of the section "Server" that speak of this process.
func (r *infoReport) identity() map[string]any {
	up := r.At.Sub(r.Started)
	executable, _ := os.Executable() // unknown: empty
	version := r.Berth.RedisVersion
	if said := r.nodes.section("Server"); said != nil { // to this client
		version = cmp.Or(version, said.values["redis_version"])
	}
	own := map[string]any{
		"redis_version": version, "redis_mode": r.mode(), "server_mode": r.mode(),
		"os": osName(), "arch_bits": 32 << (^uint(0) >> 63),
		"process_id": os.Getpid(), "process_supervised": "no", "run_id": r.Berth.RunID, "tcp_port": r.Berth.Port,
		"server_time_usec": r.At.UnixMicro(), "uptime_in_seconds": int64(up / time.Second),
		"uptime_in_days": int64(up / (24 * time.Hour)), "lru_clock": r.At.Unix() & (1<<24 - 1),
		"hz": r.Berth.TicksPerSecond, "configured_hz": r.Berth.TicksPerSecond, "clients_hz": r.Berth.TicksPerSecond,
		"executable": executable, "config_file": r.Berth.ConfigFile,
	}
	if r.Berth.Listener != "" {
		own["listener0"] = r.Berth.Listener
	}
	if r.Berth.Sharded { // the nodes are in several
		own["availability_zone"] = ""
	}
	return own
}

// modules writes what the nodes say of their modules.
func (r *infoReport) modules() {
	r.merge("Modules")
}

// clients writes the clients of berth.
func (r *infoReport) clients() {
	sum := r.Total()
	own := []figure{
		{"connected_clients", r.Berth.Clients}, {"maxclients", r.Berth.ClientsLimit},
		{"client_input_bytes", sum.InputBytes}, {"client_output_bytes", sum.OutputBytes}, {"blocked_clients", sum.Blocked},
		{"tracking_clients", sum.Tracking}, {"pinned_clients", sum.Pinned},
	}
	if left := r.Berth.PauseLeft; left > 0 && r.nodes.section("Clients").value("paused_reason") != "" {
		own = append(own, figure{"paused_reason", "client_pause"}, figure{"paused_actions", r.Berth.Paused},
			figure{"paused_timeout_milliseconds", left.Milliseconds()})
	}
	if r.nodes.section("Clients").value("pubsub_clients") != "" {
		own = append(own, figure{"pubsub_clients", sum.Subscribed})
	}
	r.merge("Clients", own...)
}

// memory writes the memory of the nodes. That of this process is in the section of berth's own,
// unless it is the store as well.
func (r *infoReport) memory() {
	var own []figure
	if r.nodes.Embedded {
		m := readMemory()
		own = []figure{
			{"used_memory", m.used}, {"used_memory_human", humanBytes(m.used)}, {"used_memory_rss", m.resident},
			{"used_memory_rss_human", humanBytes(m.resident)}, {"used_memory_peak", m.peak}, {"used_memory_peak_human", humanBytes(m.peak)},
			{"total_system_memory", m.system}, {"total_system_memory_human", humanBytes(m.system)},
			{"maxmemory", 0}, {"maxmemory_human", "0B"}, {"maxmemory_policy", "noeviction"}, {"mem_allocator", "go"},
		}
	}
	r.merge("Memory", own...)
}

// persistence writes what the nodes say. Clients wait for loading:0, so it is always there.
func (r *infoReport) persistence() {
	if r.nodes.section("Persistence").value("loading") == "" {
		r.merge("Persistence", figure{"loading", 0})
		return
	}
	r.merge("Persistence")
}

// stats writes the nodes' figures. Clients connect to berth, so connections are berth's own. What
// berth has refused no node has counted.
func (r *infoReport) stats() {
	st := &r.Total().Counters
	all := st.allCommands()
	own := []figure{{"total_connections_received", r.Berth.Accepted}, {"rejected_connections", r.Berth.Refused}}
	if r.nodes.Embedded {
		own = append(own, figure{"total_commands_processed", all.ok + all.failed}, figure{"total_net_input_bytes", st.BytesIn},
			figure{"total_net_output_bytes", st.BytesOut}, figure{"total_error_replies", all.failed})
	}
	if n, err := strconv.ParseInt(r.nodes.section("Stats").value("total_error_replies"), 10, 64); err == nil {
		own = append(own, figure{"total_error_replies", n + all.refused})
	}
	r.merge("Stats", own...)
}

// replication shows one node as it is. Over several it shows one primary with the replicas of all:
// what watches replicas looks for them here. Clients of a Cluster do not.
func (r *infoReport) replication() {
	said := r.nodes.section("Replication")
	if said != nil && !r.Berth.Sharded {
		r.merge("Replication")
		return
	}
	r.merge("Replication", figure{"role", "master"}, figure{"connected_slaves", cmp.Or(said.value("connected_slaves"), "0")},
		figure{"master_failover_state", "no-failover"}, figure{"master_replid", r.Berth.RunID},
		figure{"master_replid2", strings.Repeat("0", len(r.Berth.RunID))},
		figure{"master_repl_offset", cmp.Or(said.value("master_repl_offset"), "0")}, figure{"second_repl_offset", -1})
}

// isReplica reports whether a line is about one replica of a node: slave0.
func isReplica(name string) bool {
	number, ok := strings.CutPrefix(name, "slave")
	_, err := strconv.Atoi(number)
	return ok && err == nil
}

func (r *infoReport) cpu() {
	if !r.nodes.Embedded {
		r.merge("CPU")
		return
	}
	system, user := cpuTime()
	r.line("used_cpu_sys", seconds(system))
	r.line("used_cpu_user", seconds(user))
	r.line("used_cpu_sys_children", "0.000000")
	r.line("used_cpu_user_children", "0.000000")
}

// seconds writes a time as INFO does.
func seconds(d time.Duration) string { return fmt.Sprintf("%.6f", d.Seconds()) }

// commandStats writes the nodes' lines: they count what is inside EXEC and a script as well. What
// berth answers itself berth counts, and so what it has refused.
func (r *infoReport) commandStats() {
	said := r.nodes.section("Commandstats")
	old := said != nil && len(said.names) > 0 && !strings.Contains(said.values[said.names[0]], "rejected_calls=")
	counted := r.Total().Counters.commands
	var own []figure
	for id, cmd := range r.Commands.Commands() {
		var c commandStats
		if id < len(counted) {
			c = counted[id]
		}
		name := "cmdstat_" + cmd.Name
		call := readCall(said.value(name))
		if cmd.Way == router.Local || cmd.Way == router.Txn || r.nodes.Embedded {
			call = call.instead(c)
		} else {
			call.rejected += c.refused
		}
		switch {
		case call != (nodeCall{}):
			own = append(own, figure{name, call.fields(old)})
		case said != nil: // berth's own question, or undoing
			said.names = slices.DeleteFunc(said.names, func(n string) bool { return n == name })
		}
	}
	r.merge("Commandstats", own...)
}

// errorStats writes the errors that the nodes have counted, and those of berth's own.
func (r *infoReport) errorStats() {
	st := &r.Total().Counters
	errors := st.ownErrors
	if r.nodes.Embedded {
		errors = st.errors
	}
	said := r.nodes.section("Errorstats")
	var own []figure
	for _, word := range slices.Sorted(maps.Keys(errors)) {
		name := "errorstat_" + word
		line := fmt.Sprintf("count=%d", errors[word])
		if before := said.value(name); before != "" {
			line = joinPairs(before, line, sum)
		}
		own = append(own, figure{name, line})
	}
	r.merge("Errorstats", own...)
}

func (r *infoReport) cluster() {
	enabled := 0
	if r.Berth.Sharded {
		enabled = 1
	}
	r.merge("Cluster", figure{"cluster_enabled", enabled})
}

func (r *infoReport) keyspace() {
	r.merge("Keyspace")
}

func (r *infoReport) proxy() {
	t, sum := r.Topology, r.Total()
	ready := 0
	if r.Berth.Ready == nil {
		ready = 1
	}
	var pipes pipe.Count
	for _, c := range sum.Pipes {
		pipes.Add(c)
	}
	r.process()
	r.line("ready", ready)
	r.line("backend", r.Berth.Backend)
	r.line("loops", len(r.Loops))
	r.line("shards", len(t.Shards()))
	r.line("slots_served", t.Served())
	r.line("topology_changes", r.Nodes.Changes)
	redirects := sum.Counters.allRedirects()
	r.line("redirects_moved", redirects.moved)
	r.line("redirects_ask", redirects.asked)
	r.line("pipes", pipes.Up)
	r.line("pipes_dialing", pipes.Dialing)
	r.line("pipes_dialed", sum.PipeStats.Dials)
	r.line("pipes_lost", sum.PipeStats.Lost)
	r.line("pipes_pending_replies", pipes.Owed)
	r.line("pipes_buffered_bytes", pipes.Buffered)
}

// process writes what this process takes and has done. The nodes have lines of the same meaning in
// other sections, and programs throw all sections together.
func (r *infoReport) process() {
	m, st := readMemory(), &r.Total().Counters
	all := st.allCommands()
	system, user := cpuTime()
	r.line("proxy_used_memory", m.used)
	r.line("proxy_used_memory_rss", m.resident)
	r.line("proxy_used_memory_peak", m.peak)
	r.line("proxy_used_cpu_sys", seconds(system))
	r.line("proxy_used_cpu_user", seconds(user))
	r.line("proxy_total_commands_processed", all.ok+all.failed)
	r.line("proxy_total_error_replies", all.failed)
	r.line("proxy_total_net_input_bytes", st.BytesIn)
	r.line("proxy_total_net_output_bytes", st.BytesOut)
}

// pools writes a line for each node and user, in an order that does not change from one INFO to the
// next.
func (r *infoReport) pools() {
	enabled := 0
	if r.Berth.PoolEnabled {
		enabled = 1
	}
	r.line("private_conn_pool_enabled", enabled)
	var lines []string
	for _, st := range r.Pools {
		lines = append(lines, fmt.Sprintf("node=%s,user=%s,idle=%d,leased=%d,dialing=%d,waiting=%d,hits=%d,misses=%d,dials=%d,"+
			"dial_errors=%d,evictions=%d,wait_timeouts=%d", st.Node, st.User, st.Idle, st.Leased, st.Dialing, st.Waiting, st.Hits,
			st.Misses, st.Dials, st.DialErrors, st.Evictions, st.WaitTimeout))
	}
	slices.Sort(lines)
	for i, line := range lines {
		r.line(fmt.Sprintf("pool%d", i), line)
	}
}
