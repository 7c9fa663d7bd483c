package main

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/berth-proxy/berth/backend/pipe"
	"github.com/berth-proxy/berth/backend/pool"
	"github.com/berth-proxy/berth/server/build"
)

// mode is what berth is to its clients, in the word of Redis.
func (srv *server) mode() string {
	if srv.sharded() {
		return "cluster"
	}
	return "standalone"
}

func (r *infoReport) server() {
	srv := r.srv
	up := time.Since(srv.started)
	r.line("redis_version", srv.redisVersion())
	r.line("redis_git_sha1", "00000000")
	r.line("redis_git_dirty", 0)
	r.line("redis_mode", srv.mode())
	r.line("berth_version", build.Version)
	r.line("berth_revision", build.Revision())
	r.line("os", osName())
	r.line("arch_bits", 32<<(^uint(0)>>63))
	r.line("go_version", runtime.Version())
	r.line("process_id", os.Getpid())
	r.line("process_supervised", "no")
	r.line("run_id", runID)
	port := srv.config().Port
	if addr := srv.firstTCP(); addr != nil {
		port = addr.Port
	}
	r.line("tcp_port", port)
	r.line("server_time_usec", time.Now().UnixMicro())
	r.line("uptime_in_seconds", int64(up/time.Second))
	r.line("uptime_in_days", int64(up/(24*time.Hour)))
	r.line("hz", int64(time.Second/tickEvery))
	r.line("configured_hz", int64(time.Second/tickEvery))
	executable, _ := os.Executable() // unknown: empty
	r.line("executable", executable)
	r.line("config_file", srv.settings.File())
}

func (r *infoReport) clients() {
	r.line("connected_clients", r.srv.clients.Load())
	r.line("cluster_connections", 0)
	r.line("maxclients", r.srv.clientCap.Load())
	r.line("client_input_bytes", r.sum.inputBytes)
	r.line("client_output_bytes", r.sum.outputBytes)
	r.line("blocked_clients", r.sum.blocked)
	r.line("tracking_clients", 0)
	r.line("pinned_clients", r.sum.pinned)
}

// memory is that of this process, but for the policy: by that clients judge the store.
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

// persistence is the nodes'; clients wait for loading:0.
func (r *infoReport) persistence() {
	r.linesOf(r.nodes.saving, r.text.Len()-1)
	for _, name := range []string{"loading", "async_loading"} {
		if r.nodes.saving.values[name] == "" {
			r.line(name, 0)
		}
	}
}

// stats are berth's where it counts for itself, then what only the nodes can: keyspace_hits, expired_keys, evicted_keys …
func (r *infoReport) stats() {
	begin := r.text.Len() - 1
	st := &r.sum.stats
	all := st.allCommands()
	r.line("total_connections_received", r.srv.accepted.Load())
	r.line("total_commands_processed", all.ok+all.failed)
	r.line("total_net_input_bytes", st.bytesIn)
	r.line("total_net_output_bytes", st.bytesOut)
	r.line("rejected_connections", r.srv.refused.Load())
	r.line("total_error_replies", all.failed)
	r.linesOf(r.nodes.stats, begin)
}

// replication shows a primary without replicas: berth takes writes, and where they go is not the client's concern.
func (r *infoReport) replication() {
	r.line("role", "master")
	r.line("connected_slaves", 0)
	r.line("master_failover_state", "no-failover")
	r.line("master_replid", runID)
	r.line("master_replid2", strings.Repeat("0", len(runID)))
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

// commandStats has no times: how long commands take is measured by their way, see the metrics.
func (r *infoReport) commandStats() {
	commands := r.srv.table().Commands()
	for id, c := range r.sum.stats.commands {
		if id < len(commands) && c.ok+c.failed > 0 {
			r.line("cmdstat_"+commands[id].Name, fmt.Sprintf("calls=%d,failed_calls=%d", c.ok+c.failed, c.failed))
		}
	}
}

func (r *infoReport) errorStats() {
	errors := r.sum.stats.errors
	for _, word := range slices.Sorted(maps.Keys(errors)) {
		r.line("errorstat_"+word, fmt.Sprintf("count=%d", errors[word]))
	}
}

func (r *infoReport) cluster() {
	enabled := 0
	if r.srv.sharded() {
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
	srv := r.srv
	t := srv.nodes.Topology()
	ready := 0
	if srv.ready() == nil {
		ready = 1
	}
	var pipes pipe.Count
	for _, c := range r.sum.counts {
		pipes.Add(c)
	}
	r.line("ready", ready)
	r.line("backend", srv.nodes.Describe())
	r.line("loops", r.took)
	r.line("shards", len(t.Shards()))
	r.line("slots_served", t.Served())
	r.line("topology_changes", srv.nodes.Stats().Changes)
	redirects := r.sum.stats.allRedirects()
	r.line("redirects_moved", redirects.moved)
	r.line("redirects_ask", redirects.asked)
	r.line("pipes", pipes.Up)
	r.line("pipes_dialing", pipes.Dialing)
	r.line("pipes_dialed", r.sum.pipes.Dials)
	r.line("pipes_lost", r.sum.pipes.Lost)
	r.line("pipes_pending_replies", pipes.Owed)
	r.line("pipes_buffered_bytes", pipes.Buffered)
}

// pools has a line for each node and user, in an order that does not change from one INFO to the next.
func (r *infoReport) pools() {
	enabled := 0
	if r.srv.config().PoolEnabled {
		enabled = 1
	}
	r.line("private_conn_pool_enabled", enabled)
	var lines []string
	r.srv.pools.Each(func(addr, user string, p *pool.Pool) {
		if user == "" {
			user = "default"
		}
		st := p.Stats()
		lines = append(lines, fmt.Sprintf("node=%s,user=%s,idle=%d,leased=%d,dialing=%d,waiting=%d,hits=%d,misses=%d,dials=%d,"+
			"dial_errors=%d,evictions=%d,wait_timeouts=%d", addr, user, st.Idle, st.Leased, st.Dialing, st.Waiting, st.Hits,
			st.Misses, st.Dials, st.DialErrors, st.Evictions, st.WaitTimeout))
	})
	slices.Sort(lines)
	for i, line := range lines {
		r.line(fmt.Sprintf("pool%d", i), line)
	}
}
