package telemetry

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/server/build"
)

// infoSection is one section of INFO.
type infoSection struct {
	title string // its name in lower case asks for it
	rare  bool   // only when asked for, by name or by all
	write func(r *infoReport)
}

// infoSections are all sections, in the order of Redis, berth's own after them.
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
	{title: "Proxy", write: (*infoReport).proxy},
	{title: "Pools", write: (*infoReport).pools},
}

// Sections are the titles of the sections that a client has asked for.
type Sections map[string]bool

// ReadSections reads the words after INFO. A name of no section asks for nothing.
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

// infoReport is one INFO reply being written.
type infoReport struct {
	*Snapshot
	nodes *NodesSaid
	text  strings.Builder
}

// Info returns the wanted sections of INFO. said is what the nodes have said.
func (s *Snapshot) Info(wanted Sections, said *NodesSaid) string {
	r := &infoReport{Snapshot: s, nodes: said}
	for _, section := range infoSections {
		if !wanted[section.title] {
			continue
		}
		if r.text.Len() > 0 {
			r.text.WriteString("\r\n")
		}
		r.text.WriteString("# " + section.title + "\r\n")
		section.write(r)
	}
	return r.text.String()
}

// line writes "name:value".
func (r *infoReport) line(name string, value any) {
	fmt.Fprintf(&r.text, "%s:%v\r\n", name, value)
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
	own := r.process()
	said := r.Berth.Server
	if said == nil {
		said = unsaid
	}
	for _, field := range said {
		switch value, ok := own[field.Name]; {
		case ok:
			r.line(field.Name, value)
		case !strings.HasPrefix(field.Name, "listener"):
			r.line(field.Name, field.Value)
		}
	}
	r.line("berth_version", build.Version)
	r.line("berth_revision", build.Revision())
	r.line("go_version", runtime.Version())
}

// unsaid is the section of a node that does not say one.
var unsaid = []nodes.Field{
	{Name: "redis_version"}, {Name: "redis_git_sha1", Value: "00000000"}, {Name: "redis_git_dirty", Value: "0"}, {Name: "redis_mode"},
	{Name: "os"}, {Name: "arch_bits"}, {Name: "process_id"}, {Name: "process_supervised"}, {Name: "run_id"}, {Name: "tcp_port"},
	{Name: "server_time_usec"}, {Name: "uptime_in_seconds"}, {Name: "uptime_in_days"}, {Name: "hz"}, {Name: "configured_hz"},
	{Name: "executable"}, {Name: "config_file"},
}

// process returns the fields of the section "Server" that speak of this process.
func (r *infoReport) process() map[string]any {
	up := r.At.Sub(r.Started)
	executable, _ := os.Executable() // unknown: empty
	own := map[string]any{
		"redis_version": r.Berth.RedisVersion, "redis_mode": r.mode(), "server_mode": r.mode(),
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

// modules writes what the node says of its modules.
func (r *infoReport) modules() {
	for _, field := range r.Berth.Modules {
		r.line(field.Name, field.Value)
	}
}

func (r *infoReport) clients() {
	sum := r.Total()
	r.line("connected_clients", r.Berth.Clients)
	r.line("cluster_connections", 0)
	r.line("maxclients", r.Berth.ClientsLimit)
	r.line("client_input_bytes", sum.InputBytes)
	r.line("client_output_bytes", sum.OutputBytes)
	r.line("blocked_clients", sum.Blocked)
	r.line("tracking_clients", sum.Tracking)
	r.line("pinned_clients", sum.Pinned)
}

// memory writes the memory of this process. Only the policy is the nodes', because clients judge
// the store by it.
func (r *infoReport) memory() {
	m := readMemory()
	size := func(name string, n uint64) {
		r.line(name, n)
		r.line(name+"_human", humanBytes(n))
	}
	size("used_memory", m.used)
	size("used_memory_rss", m.resident)
	size("used_memory_peak", m.peak)
	size("total_system_memory", m.system)
	size("maxmemory", 0)
	r.line("maxmemory_policy", r.nodes.policyOr("noeviction"))
	r.line("mem_allocator", "go")
}

// persistence writes what the nodes say. Clients wait for loading:0, so it is always there.
func (r *infoReport) persistence() {
	r.linesOf(r.nodes.Saving, r.text.Len()-1)
	for _, name := range []string{"loading", "async_loading"} {
		if r.nodes.Saving.values[name] == "" {
			r.line(name, 0)
		}
	}
}

// stats writes what berth counts itself, then what only the nodes can count: keyspace_hits,
// expired_keys, evicted_keys …
func (r *infoReport) stats() {
	begin := r.text.Len() - 1
	st := &r.Total().Counters
	all := st.allCommands()
	r.line("total_connections_received", r.Berth.Accepted)
	r.line("total_commands_processed", all.ok+all.failed)
	r.line("total_net_input_bytes", st.BytesIn)
	r.line("total_net_output_bytes", st.BytesOut)
	r.line("rejected_connections", r.Berth.Refused)
	r.line("total_error_replies", all.failed)
	r.linesOf(r.nodes.Stats, begin)
}

// replication shows a primary without replicas: berth takes writes, and a client need not know
// where they go.
func (r *infoReport) replication() {
	r.line("role", "master")
	r.line("connected_slaves", 0)
	r.line("master_failover_state", "no-failover")
	r.line("master_replid", r.Berth.RunID)
	r.line("master_replid2", strings.Repeat("0", len(r.Berth.RunID)))
	r.line("master_repl_offset", 0)
	r.line("second_repl_offset", -1)
}

func (r *infoReport) cpu() {
	system, user := cpuTime()
	r.line("used_cpu_sys", fmt.Sprintf("%.6f", system.Seconds()))
	r.line("used_cpu_user", fmt.Sprintf("%.6f", user.Seconds()))
	r.line("used_cpu_sys_children", "0.000000")
	r.line("used_cpu_user_children", "0.000000")
}

// commandStats writes how often berth has answered each command. How long a call takes the nodes
// say, on average of all their clients.
func (r *infoReport) commandStats() {
	commands := r.Commands.Commands()
	for id, c := range r.Total().Counters.commands {
		if id < len(commands) && c.ok+c.failed > 0 {
			r.line("cmdstat_"+commands[id].Name, r.nodes.Calls.line(commands[id].Name, c))
		}
	}
}

func (r *infoReport) errorStats() {
	errors := r.Total().Counters.errors
	for _, word := range slices.Sorted(maps.Keys(errors)) {
		r.line("errorstat_"+word, fmt.Sprintf("count=%d", errors[word]))
	}
}

func (r *infoReport) cluster() {
	enabled := 0
	if r.Berth.Sharded {
		enabled = 1
	}
	r.line("cluster_enabled", enabled)
}

func (r *infoReport) keyspace() {
	for _, db := range slices.Sorted(maps.Keys(r.nodes.keyspace)) {
		r.line(fmt.Sprintf("db%d", db), r.nodes.keyspace[db])
	}
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
