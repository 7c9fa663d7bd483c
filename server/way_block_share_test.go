package main

import (
	"fmt"
	"net"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// One address that blocks on ever more keys takes no connection that others need: theirs come at
// once, while its newest wait.
func TestBlockingOnManyKeysLeavesConnectionsForOthers(t *testing.T) {
	overBackends(t, []string{}, blockOnManyKeys)
}

func blockOnManyKeys(t *testing.T, nodes backing) {
	long := sized(160, 2000) // connections for blocked clients
	b := startBerth(t, nodes.url(""), "--private-conn-pool-max-total", fmt.Sprint(2*long), "--pool-blocking-share", "50")
	watcher := startBystander(t, b.Addr())
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for i := range 2 * long {
		attacker, err := dialer.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer attacker.Close()
		if _, err := attacker.Write(redistest.Command("BLPOP", fmt.Sprint("{attack}.", i), "0")); err != nil {
			t.Fatal(err)
		}
	}
	b.awaitLeased(t, long-long/8)
	b.awaitWaiters(t, 2*long)
	pop, read, monitor := dial(t, b.Addr()), dial(t, b.Addr()), dial(t, b.Addr())
	list, stream := unique("{attack}list"), unique("{attack}stream")
	for _, c := range []*redistest.Conn{pop, read, monitor} {
		c.Do("CLIENT", "SETNAME", "bystander")
	}
	pop.Send("BLPOP", list, "0")
	read.Send("XREAD", "BLOCK", "0", "STREAMS", stream, "$")
	if got := monitor.Do("MONITOR"); got != "OK" {
		t.Errorf("MONITOR: %v", got)
	}
	b.awaitLeased(t, long-long/8+3)
	other := dial(t, b.Addr())
	other.Do("RPUSH", list, "x")
	other.Do("XADD", stream, "1-1", "f", "v")
	if got := fmt.Sprint(pop.Recv()); got != fmt.Sprintf("[%s x]", list) {
		t.Errorf("BLPOP: %s", got)
	}
	if got := fmt.Sprint(read.Recv()); got != fmt.Sprintf("[[%s [[1-1 [f v]]]]]", stream) {
		t.Errorf("XREAD: %s", got)
	}
	watcher.end()
}
