package telemetry

// The metric families: what a scrape of /metrics may contain besides go_* and process_*, in this
// order. Loops count in plain fields, a look at the server copies the fields, and Total adds them
// up.
var (
	metricBuildInfo = gaugeFamily("berth_build_info", "Always 1; the labels say what runs.", "version", "revision", "go")
	metricStartTime = gaugeFamily("berth_start_time_seconds", "When berth started, in seconds since 1970.")
	metricReady     = gaugeFamily("berth_ready_state", "1 while berth serves clients: a backend is reachable and no stop was asked for.")

	metricClients           = gaugeFamily("berth_clients_connected", "Clients connected now.")
	metricClientsByDoor     = gaugeFamily("berth_door_clients_connected", "Clients connected now, by the open address that they came to.", "door")
	metricClientsMax        = gaugeFamily("berth_clients_limit", "Clients allowed at one time: maxclients, capped by the descriptor limit.")
	metricClientsBlocked    = gaugeFamily("berth_clients_blocked", "Clients that wait for a blocking command, or for CLIENT PAUSE to end.")
	metricClientsPinned     = gaugeFamily("berth_clients_pinned", "Clients that hold a connection until they leave (MONITOR, CLIENT TRACKING; SUBSCRIBE without pubsub-sharing).")
	metricClientsSubscribed = gaugeFamily("berth_clients_subscribed", "Clients with subscriptions.")
	metricClientsAccepted   = counterFamily("berth_clients_accepted_total", "Client connections accepted.")
	metricClientsRefused    = counterFamily("berth_clients_refused_total", "Client connections refused because there were too many.")
	metricHandshakes        = counterFamily("berth_tls_handshakes_total", "TLS handshakes of clients that ended, by outcome (full, resumed, timeout, error).", "outcome")
	metricHandshakesNow     = gaugeFamily("berth_tls_handshakes_running", "Clients in the midst of a TLS handshake now.")
	metricClientsClosed     = counterFamily("berth_clients_closed_total", "Client connections closed, by reason.", "reason")
	metricClientBytes       = counterFamily("berth_client_bytes_total", "Bytes from (in) and to (out) clients.", "direction")
	metricClientBuffers     = gaugeFamily("berth_client_buffer_bytes", "Memory held for clients now, by what it holds.", "buffer")
	metricLimitHits         = counterFamily("berth_client_limits_total", "Limits that clients ran into, by the option that sets them.", "option")

	metricCommands        = counterFamily("berth_commands_total", "Commands answered, by name and outcome (ok, error).", "command", "outcome")
	metricCommandDuration = histogramFamily("berth_command_duration_seconds", "Time from sending a command on its way to its last reply, by way of travel; the wait of blocking commands included, the wait for a connection and commands that berth answers alone not.", "way")
	metricFamilyDuration  = histogramFamily("berth_family_duration_seconds", "The same by family of command (string, list, hash …).", "family")
	metricWaits           = histogramFamily("berth_wait_seconds", "Time that requests waited in berth, of those that did: before they were sent, because their client had to wait for something (held), and after their reply had come, for that to an earlier request of the client (turn).", "why")
	metricErrors          = counterFamily("berth_errors_total", "Error replies to clients, by the first word of the error.", "error")

	metricNodeConnections = gaugeFamily("berth_node_connections", "Connections from berth to a node now, by kind (pipe, lease, feed) and state.", "node", "kind", "state")
	metricNodeDials       = counterFamily("berth_node_dials_total", "Connections to nodes begun, by kind and outcome (ok, error).", "kind", "outcome")
	metricNodeClosed      = counterFamily("berth_node_connections_closed_total", "Connections to nodes closed, by kind and reason.", "kind", "reason")
	metricNodeBytes       = counterFamily("berth_node_bytes_total", "Bytes from (in) and to (out) nodes on pipes and feeds.", "direction")
	metricNodeReads       = counterFamily("berth_node_reads_total", "Reads that could have gone to several nodes (read-from), by the node that they went to and its role then (primary, replica).", "node", "role")
	metricNodeReadable    = gaugeFamily("berth_node_readable", "Whether a replica is read now: 1, or 0 while its link is down, it lags too much or does not answer.", "node")
	metricNodeLag         = gaugeFamily("berth_node_lag_seconds", "Time since which a replica may lack writes of its primary.", "node")
	metricNodeLagBytes    = gaugeFamily("berth_node_lag_bytes", "Bytes of its primary's writes that a replica lacks.", "node")
	metricNodePending     = gaugeFamily("berth_node_requests_pending", "Replies a node owes on its pipes now.", "node")
	metricNodeBuffers     = gaugeFamily("berth_node_buffer_bytes", "Bytes that wait for a node to read them.", "node")
	metricNodeTimeouts    = counterFamily("berth_node_timeouts_total", "Requests that a node had not answered after backend-timeout-ms, and reads that went elsewhere after a second.", "node")
	metricNodeDuration    = histogramFamily("berth_node_duration_seconds", "Time from putting a request on a pipe to the node's last reply to it.", "node")
	metricNodeOwed        = gaugeFamily("berth_node_owed_seconds", "Time for which a node has owed the oldest reply on its pipes, if that is more than a second; else 0.", "node")
	metricNodePassed      = counterFamily("berth_node_pipes_passed_total", "Pipes passed by on a second one, because a script ran for 0.05 s, or a reply was owed for longer than a second, or was longer than a megabyte.")

	metricChannels     = gaugeFamily("berth_feed_channels", "Channels and patterns that feeds are subscribed to at a node now, counted once for each loop and user.", "node")
	metricFeedTimeouts = counterFamily("berth_feed_timeouts_total", "Connections for subscriptions that were ended because the node did not answer.")
	metricMessages     = counterFamily("berth_feed_messages_total", "Published messages that came from nodes (in) and were delivered to clients (out).", "direction")

	metricPoolHits      = counterFamily("berth_pool_hits_total", "Leases taken from a node's idle connections.", "node")
	metricPoolMisses    = counterFamily("berth_pool_misses_total", "Leases that found no idle connection.", "node")
	metricPoolEvictions = counterFamily("berth_pool_evictions_total", "Idle connections closed because private_conn_idle_time_sec was over.", "node")
	metricPoolWaits     = counterFamily("berth_pool_waits_total", "Waits for a lease that ended, by outcome (answered, timeout).", "node", "outcome")
	metricPoolWaiting   = gaugeFamily("berth_pool_waiters", "Clients that wait for a lease now, by what for (exclusive: WATCH and long values; blocking: blocking commands, MONITOR and the like).", "node", "class")
	metricPoolLimit     = gaugeFamily("berth_pool_limit", "Exclusive connections berth makes to a node at most, and how many of them may be held by blocking commands and the like; 0: no limit.", "node", "class")
	metricPoolRevoked   = counterFamily("berth_pool_revoked_total", "WATCHes whose lease was taken back, so that EXEC answers nil, by reason (watch-max-idle; waiters: others waited for one).", "reason")
	metricPoolWait      = histogramFamily("berth_pool_wait_seconds", "Time from asking for a lease to having it, by what for (watch, large, blocking, pinned).", "reason")
	metricPoolHold      = histogramFamily("berth_pool_hold_seconds", "Time a lease was held, by what for (watch, large, blocking, pinned).", "reason")

	metricLanes   = gaugeFamily("berth_lane_connections", "Connections on which clients wait together for a blocking command now.")
	metricCancels = counterFamily("berth_lane_cancels_total", "Blocking commands that were ended at the node because nobody waited any more, by how (unblocked, closed).", "outcome")
	metricOrphans = counterFamily("berth_orphan_pops_total", "Elements popped for a client that had just left, with nobody else waiting, by what became of them (returned, kept, dropped, lost).", "outcome")

	metricRedirects   = counterFamily("berth_redirects_total", "Redirects by nodes that berth followed, by kind (moved, ask).", "kind")
	metricRefreshes   = counterFamily("berth_topology_refreshes_total", "Times the nodes or Sentinels were asked who the primaries are, by outcome (same, changed, error).", "outcome")
	metricShards      = gaugeFamily("berth_topology_shards", "Primaries with slots.")
	metricSlotsServed = gaugeFamily("berth_topology_slots", "Slots that have a primary; 16384 when all is well.")

	metricLoops   = gaugeFamily("berth_loops_running", "Event loops.")
	metricLoopLag = histogramFamily("berth_loop_lag_seconds", "Time a task waited for its event loop, sampled each tick.")
)
