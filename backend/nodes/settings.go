package nodes

import (
	"sync/atomic"
	"time"
)

// Settings are what Nodes looks up while berth runs.
type Settings struct {
	dialTimeout      atomic.Int64
	topologyInterval atomic.Int64
}

// Defaults of NodesSettings.
const (
	defaultDialTimeout      = 2 * time.Second
	defaultTopologyInterval = 10 * time.Second
)

// SetDialTimeout bounds connecting to a node and each question; 0: two seconds.
func (s *Settings) SetDialTimeout(d time.Duration) { s.dialTimeout.Store(int64(d)) }

// DialTimeout is what SetDialTimeout set.
func (s *Settings) DialTimeout() time.Duration {
	if d := time.Duration(s.dialTimeout.Load()); d > 0 {
		return d
	}
	return defaultDialTimeout
}

// SetTopologyInterval is how often the topology is asked for without cause; 0: every ten seconds.
// Of Nodes that run already, use Nodes.SetTopologyInterval.
func (s *Settings) SetTopologyInterval(d time.Duration) { s.topologyInterval.Store(int64(d)) }

// TopologyInterval is what SetTopologyInterval set.
func (s *Settings) TopologyInterval() time.Duration {
	if d := time.Duration(s.topologyInterval.Load()); d > 0 {
		return d
	}
	return defaultTopologyInterval
}
