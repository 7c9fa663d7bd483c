package router

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/codec"
)

var (
	// ErrClusterDisabled says that the node is not a cluster node. Source: its reply "ERR This
	// instance has cluster support disabled".
	ErrClusterDisabled = errors.New("cluster support disabled")
	// ErrNotTopology is wrapped by every error about a reply that is no topology, also by one about
	// an error reply. A node before 7.0 does not know CLUSTER SHARDS: ask it for CLUSTER SLOTS.
	ErrNotTopology = errors.New("not a cluster topology")
)

// ParseClusterShards reads a node's raw answer to CLUSTER SHARDS (Redis 7.0 and later), in RESP2 or
// RESP3.
//
// seedHost is the host of the node that answered. It replaces an endpoint that is empty or null.
// An endpoint "?" (the node should announce a host name and has none) is replaced by the node's IP
// address. Nodes that are not online (failed, loading) are left out. If a shard's primary is left
// out, no node serves the shard's slots until the cluster has elected another primary and is asked
// again.
func ParseClusterShards(reply []byte, seedHost string, tls bool) (*Topology, error) {
	v, err := parseTopologyReply(reply)
	if err != nil {
		return nil, err
	}
	b := newTopologyBuilder()
	for _, shard := range v.Elems {
		slots, _ := shard.Lookup("slots")
		nodes, ok := shard.Lookup("nodes")
		if !ok {
			return nil, fmt.Errorf("%w: a shard without nodes", ErrNotTopology)
		}
		ranges := make([]slotRange, 0, len(slots.Elems)/2)
		for i := 0; i+1 < len(slots.Elems); i += 2 {
			r, err := parseRange(slots.Elems[i], slots.Elems[i+1])
			if err != nil {
				return nil, err
			}
			ranges = append(ranges, r)
		}
		var s Shard
		for _, node := range nodes.Elems {
			addr := shardsNodeAddr(node, seedHost, tls)
			if addr == "" {
				continue
			}
			if err := b.know(addr); err != nil {
				return nil, err
			}
			if health := text(node, "health"); health != "online" && health != "" {
				continue
			}
			switch role := text(node, "role"); {
			case role == "replica", role == "slave":
				s.Replicas = append(s.Replicas, addr)
			case s.Primary == "":
				s.Primary = addr
			}
		}
		if s.Primary == "" {
			if len(ranges) > 0 {
				b.down++
			}
			continue
		}
		if err := b.add(s, ranges); err != nil {
			return nil, err
		}
	}
	return b.build(), nil
}

// ParseClusterSlots reads a node's raw answer to CLUSTER SLOTS. It treats endpoints as
// ParseClusterShards does. The reply does not tell the health of nodes; it omits failed replicas.
func ParseClusterSlots(reply []byte, seedHost string) (*Topology, error) {
	v, err := parseTopologyReply(reply)
	if err != nil {
		return nil, err
	}
	b := newTopologyBuilder()
	for _, entry := range v.Elems {
		if len(entry.Elems) < 3 {
			return nil, fmt.Errorf("%w: an entry of %d elements", ErrNotTopology, len(entry.Elems))
		}
		r, err := parseRange(entry.Elems[0], entry.Elems[1])
		if err != nil {
			return nil, err
		}
		s := Shard{Primary: slotsNodeAddr(entry.Elems[2], seedHost)}
		for _, node := range entry.Elems[3:] {
			if addr := slotsNodeAddr(node, seedHost); addr != "" {
				s.Replicas = append(s.Replicas, addr)
			}
		}
		if s.Primary == "" {
			continue
		}
		if err := b.add(s, []slotRange{r}); err != nil {
			return nil, err
		}
	}
	return b.build(), nil
}

func parseTopologyReply(reply []byte) (codec.Value, error) {
	v, err := codec.ParseValue(reply)
	switch {
	case err != nil:
		return v, fmt.Errorf("%w: %w", ErrNotTopology, err)
	case v.IsError() && strings.Contains(v.Text(), "cluster support disabled"):
		return v, ErrClusterDisabled
	case v.IsError():
		return v, fmt.Errorf("%w: %.200s", ErrNotTopology, v.Text())
	case v.Type != '*':
		return v, fmt.Errorf("%w: its type is %q", ErrNotTopology, v.Type)
	}
	return v, nil
}

func parseRange(from, to codec.Value) (slotRange, error) {
	if from.Type != ':' || to.Type != ':' || from.Int < 0 || from.Int > to.Int || to.Int >= Slots {
		return slotRange{}, fmt.Errorf("%w: slots %.20q to %.20q", ErrNotTopology, from.Text(), to.Text())
	}
	return slotRange{int(from.Int), int(to.Int)}, nil
}

// shardsNodeAddr returns the address of a node in CLUSTER SHARDS, "" when the node has none: it has no
// such port.
func shardsNodeAddr(node codec.Value, seedHost string, tls bool) string {
	name, other := "port", "tls-port"
	if tls {
		name, other = other, name
	}
	port, ok := node.Lookup(name)
	if !ok {
		port, _ = node.Lookup(other)
	}
	endpoint, _ := node.Lookup("endpoint")
	return nodeAddr(endpoint, text(node, "ip"), seedHost, port.Int)
}

// slotsNodeAddr returns the address of a node in CLUSTER SLOTS. The node is endpoint, port, id and
// (since 7.0) a map with "ip" or "hostname", whichever the endpoint is not.
func slotsNodeAddr(node codec.Value, seedHost string) string {
	if len(node.Elems) < 2 {
		return ""
	}
	ip := ""
	if len(node.Elems) > 3 {
		ip = text(node.Elems[3], "ip")
	}
	return nodeAddr(node.Elems[0], ip, seedHost, node.Elems[1].Int)
}

func nodeAddr(endpoint codec.Value, ip, seedHost string, port int64) string {
	host := endpoint.Text()
	if host == "?" {
		host = ip
	}
	if endpoint.Null || host == "" {
		host = seedHost
	}
	return Addr(host, port)
}

// maxHost is the length of the longest host name, and more than that of any IP address.
const maxHost = 255

// Addr is host and port as one word, "" if they are no address. A node has chosen the host: it goes
// into logs and metrics.
func Addr(host string, port int64) string {
	odd := func(c rune) bool { return c <= ' ' || c >= 0x7f }
	if port <= 0 || port > 65535 || host == "" || len(host) > maxHost || strings.ContainsFunc(host, odd) {
		return ""
	}
	return net.JoinHostPort(host, strconv.FormatInt(port, 10))
}

// ParseClusterNodes reads the addresses in a node's answer to CLUSTER NODES: a line for each node,
// "id 10.0.0.1:6379@16379,hostname flags …". Before Redis 7.0 no other answer has the nodes without
// slots.
func ParseClusterNodes(text, seedHost string) (addrs []string, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		addr, _, _ := strings.Cut(fields[1], "@")
		colon := strings.LastIndexByte(addr, ':') // an IPv6 address comes without brackets
		port, err := strconv.ParseInt(addr[colon+1:], 10, 64)
		if colon < 0 || err != nil {
			continue
		}
		host := addr[:colon]
		if host == "" {
			host = seedHost
		}
		if a := Addr(host, port); a != "" {
			addrs = append(addrs, a)
		}
		if len(addrs) > MaxNodes {
			return nil, fmt.Errorf("%w: more than %d nodes", ErrNotTopology, MaxNodes)
		}
	}
	return addrs, nil
}
