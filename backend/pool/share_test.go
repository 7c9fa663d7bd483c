package pool

import (
	"net/netip"
	"testing"
)

func from(s string) netip.Addr { return netip.MustParseAddr(s) }

// Whoever has a share may not have the last leases, and there is always room for one more party.
func TestSharesLeaveRoomForOthers(t *testing.T) {
	const most = 160
	nl := &nodeLimit{settings: NewSettings(Values{MaxTotal: most, BlockingShare: 100})}
	s := nl.settings.Load()
	take := func(p party, tries int) (got int) {
		for range tries {
			if nl.enter(nl.shares.join(p, most), s) {
				got++
			}
		}
		return got
	}
	first := party{"default", from("10.0.0.1")}
	if got := take(first, 10*most); got != most-2*most/greedPart {
		t.Errorf("one address alone has %d of %d", got, most)
	}
	if got := take(party{"default", from("10.0.0.2")}, most/greedPart); got != most/greedPart {
		t.Errorf("another address of the user has %d", got)
	}
	if got := take(party{"other", from("10.0.0.1")}, most/greedPart); got != most/greedPart {
		t.Errorf("another user has %d", got)
	}
	if got := take(party{"third", from("10.0.0.3")}, 1); got != 0 {
		t.Errorf("there are more than all: %d", got)
	}
	for range 10 * most {
		nl.shares.leave(first)
	}
	if u := nl.shares.users["default"]; len(u.addrs) != 1 || u.held != most/greedPart {
		t.Errorf("left: %+v", u)
	}
}
