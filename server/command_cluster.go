package main

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/berth-proxy/berth/backend/nodes"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// CLUSTER. Over many shards berth shows itself as a cluster of one node that owns every slot, at
// the address the client came to: cluster clients send it everything, and berth sends it on. Over a
// standalone node it says what that node says.

// clusterOnly is f for clients that see a cluster.
func clusterOnly(f answerFunc) answerFunc {
	return func(s *session, args [][]byte, out []byte) []byte {
		if !s.loop.srv.sharded() {
			return codec.AppendError(out, errNoCluster)
		}
		return f(s, args, out)
	}
}

func clusterMyID(_ *session, _ [][]byte, out []byte) []byte {
	return codec.AppendBulkString(out, nodeID)
}
func clusterMyShardID(_ *session, _ [][]byte, out []byte) []byte {
	return codec.AppendBulkString(out, shardID)
}
func clusterLinks(_ *session, _ [][]byte, out []byte) []byte { return codec.AppendArray(out, 0) }

const errNoCluster = "ERR This instance has cluster support disabled"

// sharded reports whether clients see a cluster. Before a node has answered they do not.
func (srv *server) sharded() bool { return srv.nodes.Info().Kind != nodes.Standalone }

// mode is what berth is to its clients, in the word of Redis.
func (srv *server) mode() string {
	if srv.sharded() {
		return "cluster"
	}
	return "standalone"
}

// refusal words why a Refused command is refused.
func (s *session) refusal(cmd *router.Command) string {
	switch {
	case s.loop.srv.sharded():
		return cmd.RefusalInCluster()
	case cmd.Within(router.ClusterOnly):
		return errNoCluster
	}
	return cmd.Refusal()
}

// By what berth calls itself towards clients, anew with each start.
var (
	nodeID  = randomID()
	shardID = randomID()
	runID   = randomID()
)

// randomID is 40 hex digits, as Redis names nodes and runs.
func randomID() string {
	var b [20]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// announced is the address at which clients reach berth: what is configured, else where the client
// came to.
func (s *session) announced() (host string, port int) {
	host, port = s.reachedAt()
	cfg := s.loop.srv.config()
	return cmp.Or(cfg.AnnounceIP, host), cmp.Or(cfg.AnnouncePort, port)
}

// reachedAt is the address the client came to, for it to come again. A client of a unix socket is
// told the first TCP listener.
func (s *session) reachedAt() (host string, port int) {
	addr, ok := s.conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		addr = s.loop.srv.firstTCP()
	}
	if addr == nil {
		return "", 0
	}
	ip, _ := netip.AddrFromSlice(addr.IP)
	if ip = ip.Unmap(); ip.IsUnspecified() {
		return "", addr.Port // clients take it for the host they know
	}
	return ip.String(), addr.Port
}

// firstTCP is the address of the first TCP listener, nil when there is none.
func (srv *server) firstTCP() *net.TCPAddr {
	for _, d := range *srv.doors.Load() {
		if addr, ok := d.Addr().(*net.TCPAddr); ok {
			return addr
		}
	}
	return nil
}

func clusterSlots(s *session, _ [][]byte, out []byte) []byte {
	host, port := s.announced()
	out = codec.AppendArray(out, 1)
	out = codec.AppendArray(out, 3)
	out = codec.AppendInt(out, 0)
	out = codec.AppendInt(out, router.Slots-1)
	out = codec.AppendArray(out, 4)
	out = codec.AppendBulkString(out, host)
	out = codec.AppendInt(out, int64(port))
	out = codec.AppendBulkString(out, nodeID)
	return codec.AppendMap(out, 0, s.resp())
}

func clusterShards(s *session, _ [][]byte, out []byte) []byte {
	host, port := s.announced()
	resp := s.resp()
	text := func(name, value string) {
		out = codec.AppendBulkString(out, name)
		out = codec.AppendBulkString(out, value)
	}
	number := func(name string, value int) {
		out = codec.AppendBulkString(out, name)
		out = codec.AppendInt(out, int64(value))
	}
	out = codec.AppendArray(out, 1)
	withID := s.loop.srv.isValkeySince(9, 1)
	if withID {
		out = codec.AppendMap(out, 3, resp)
	} else {
		out = codec.AppendMap(out, 2, resp)
	}
	out = codec.AppendBulkString(out, "slots")
	out = codec.AppendArray(out, 2)
	out = codec.AppendInt(out, 0)
	out = codec.AppendInt(out, router.Slots-1)
	out = codec.AppendBulkString(out, "nodes")
	out = codec.AppendArray(out, 1)
	out = codec.AppendMap(out, 7, resp)
	text("id", nodeID)
	number("port", port)
	text("ip", host)
	text("endpoint", host)
	text("role", "master")
	number("replication-offset", 0)
	text("health", "online")
	if withID {
		text("id", shardID)
	}
	return out
}

// clusterNodes shows berth with the bus port that a node would have by default; nobody listens
// there.
func clusterNodes(s *session, _ [][]byte, out []byte) []byte {
	host, port := s.announced()
	bus := port + 10000
	if bus > 65535 {
		bus = 0
	}
	line := fmt.Sprintf("%s %s:%d@%d myself,master - 0 0 1 connected 0-%d\n", nodeID, host, port, bus, router.Slots-1)
	return codec.AppendVerbatim(out, "txt", line, s.resp())
}

// clusterInfo says of the slots what berth knows of the nodes', and else what the nodes say: programs
// that monitor a Cluster read it.
func clusterInfo(s *session, cmd *router.Command, _ []byte, _ [][]byte) bool {
	srv, resp := s.loop.srv, s.resp()
	switch {
	case !srv.sharded():
		return s.sayError(cmd, errNoCluster)
	case s.waiting > 0:
		return s.hold(pauseDraining)
	}
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	asked := &nodesInquiry{}
	say := func() {
		switch {
		case s.closed:
			r.done(nil)
		case asked.refusal != nil:
			r.done(asked.refusal)
		default:
			r.done(codec.AppendVerbatim(nil, "txt", asked.word.ClusterInfo(srv.nodes.Topology().Served()), resp))
		}
	}
	if srv.nodes.Info().Kind == nodes.Embedded {
		say()
	} else {
		asked.askAll(s, askClusterInfo, asked.word.TakeCluster, say)
	}
	return true
}

var askClusterInfo = codec.AppendCommandString(nil, "CLUSTER", "INFO")

// clusterKeySlot needs no cluster over Valkey 9.0 and later.
func clusterKeySlot(s *session, args [][]byte, out []byte) []byte {
	if srv := s.loop.srv; !srv.sharded() && !srv.isValkeySince(9, 0) {
		return codec.AppendError(out, errNoCluster)
	}
	return codec.AppendInt(out, int64(router.Slot(args[2])))
}

func clusterReplicas(_ *session, args [][]byte, out []byte) []byte {
	if !isNodeID(args[2]) {
		return codec.AppendError(out, "ERR Unknown node "+string(args[2]))
	}
	return codec.AppendArray(out, 0)
}

func clusterFailureReports(_ *session, args [][]byte, out []byte) []byte {
	if !isNodeID(args[2]) {
		return codec.AppendError(out, "ERR Unknown node "+string(args[2]))
	}
	return codec.AppendInt(out, 0)
}

func isNodeID(word []byte) bool { return strings.EqualFold(string(word), nodeID) }

// askSlot sends COUNTKEYSINSLOT and GETKEYSINSLOT to the owner of the slot.
func askSlot(s *session, cmd *router.Command, raw []byte, args [][]byte) bool {
	if !s.loop.srv.sharded() {
		return s.refuse(cmd, errNoCluster)
	}
	slot, ok := parseInt(args[2])
	badSlot, count := "ERR Invalid slot", int64(0)
	if len(args) > 3 && ok {
		badSlot = "ERR Invalid slot or number of keys"
		count, ok = parseInt(args[3])
	}
	switch {
	case !ok:
		return s.refuse(cmd, errNotNumber)
	case slot < 0 || slot >= router.Slots || count < 0:
		return s.refuse(cmd, badSlot)
	}
	t := s.loop.srv.nodes.Topology()
	shard, text := shardOf(t, int(slot), s.id)
	if text != "" {
		return s.refuse(cmd, text)
	}
	if !s.turnTo(onPipes, t) {
		return false
	}
	r := s.newRequest(cmd)
	r.ends = settle(func(r *request, reply []byte) { r.done(reply) }) // no second try: it would go to any node
	if err := s.pipes.Shard(t, shard).Send(raw, 1, r); err != nil {
		r.lost(err)
	}
	return true
}

func clusterHelp(_ *session, _ [][]byte, out []byte) []byte {
	return appendHelp(out, "CLUSTER",
		"COUNT-FAILURE-REPORTS <node-id>",
		"    0: berth is the one node that clients see.",
		"COUNTKEYSINSLOT <slot>",
		"    How many keys the owner of the slot has in it.",
		"GETKEYSINSLOT <slot> <count>",
		"    Names of keys that the owner of the slot has in it.",
		"INFO",
		"    The state of the cluster, as far as berth knows the nodes'.",
		"KEYSLOT <key>",
		"    The hash slot of a key.",
		"LINKS",
		"    Nothing: berth has no cluster bus.",
		"MYID",
		"    The node ID of berth, anew with each start.",
		"MYSHARDID",
		"    The shard ID of berth, anew with each start.",
		"NODES",
		"    berth, as the owner of all slots. Lines have the form",
		"    <id> <ip:port@bus-port> <flags> <master> <pings> <pongs> <epoch> <link> <slots>",
		"REPLICAS <node-id>",
		"    Nothing: replicas are not shown to clients.",
		"SHARDS",
		"    berth, as the owner of all slots.",
		"SLOTS",
		"    berth, as the owner of all slots.")
}
