package nodes

import (
	"context"
	"fmt"
	"net"
	"net/netip"
)

// A node with a name may change its address: a managed service points the name at the replica that
// has taken over, and the old primary may live on as a replica. So berth looks the name up in each
// round, and a connection is one to an address, never to a name. When the name has another one, the
// topology has changed: what is on its way at the old address has its time to end there.

// Named reports whether the target is one node, or the seed of a Cluster, by a name that may have
// other addresses later.
func (t Target) Named() bool { return len(t.Addrs) == 1 && t.Master == "" && isNamed(t.Addrs[0]) }

// isNamed reports whether the host of an address is a name.
func isNamed(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil { // a unix socket
		return false
	}
	_, err = netip.ParseAddr(host)
	return err != nil
}

// resolve returns the addresses of the seeds. Those of a name that cannot be looked up are left out,
// and why is added to reasons.
func (n *Nodes) resolve(ctx context.Context, reasons *[]error) (addrs []string) {
	names := n.settings.Dialer.NamesOf(n.Topology().Shards()) // a lookup may fail, or lead elsewhere
	for _, seed := range n.Target().Addrs {
		if !isNamed(seed) {
			addrs = append(addrs, seed)
			continue
		}
		host, port, _ := net.SplitHostPort(seed)
		timed, cancel := context.WithTimeout(ctx, n.settings.DialTimeout())
		hosts, err := n.settings.Resolver.LookupHost(timed, host)
		cancel()
		if err != nil {
			*reasons = append(*reasons, fmt.Errorf("dial %s: %w", seed, err))
			continue
		}
		for _, ip := range hosts[:min(len(hosts), maxCandidates)] {
			addr := net.JoinHostPort(ip, port)
			names[addr] = host
			addrs = append(addrs, addr)
		}
	}
	n.settings.Dialer.Named(names)
	return addrs
}
