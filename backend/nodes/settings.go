package nodes

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend"
)

// Settings are what Nodes looks up while berth runs. The zero value means the defaults.
type Settings struct {
	Dialer   *backend.Dialer // set before the first node is asked, as is what follows
	Resolver *net.Resolver   // looks up the names of nodes; nil: the machine's
	Naming   *backend.Naming // names the connections; nil: they have no names

	link string // what berth is called in chains

	dialTimeout      atomic.Int64 // nanoseconds
	topologyInterval atomic.Int64 // nanoseconds
}

// The defaults.
const (
	defaultDialTimeout      = 2 * time.Second
	defaultTopologyInterval = 10 * time.Second
)

// SetDialTimeout bounds how long connecting to a node may take, and each answer; 0: the default.
func (s *Settings) SetDialTimeout(d time.Duration) { s.dialTimeout.Store(int64(d)) }

// DialTimeout returns what SetDialTimeout set, or the default.
func (s *Settings) DialTimeout() time.Duration {
	if d := time.Duration(s.dialTimeout.Load()); d > 0 {
		return d
	}
	return defaultDialTimeout
}

// SetTopologyInterval sets how often the topology is asked for if there is no other cause; 0: the
// default. For Nodes that run already, call Nodes.SetTopologyInterval.
func (s *Settings) SetTopologyInterval(d time.Duration) { s.topologyInterval.Store(int64(d)) }

// TopologyInterval returns what SetTopologyInterval set, or the default.
func (s *Settings) TopologyInterval() time.Duration {
	if d := time.Duration(s.topologyInterval.Load()); d > 0 {
		return d
	}
	return defaultTopologyInterval
}
