package backend

import (
	"errors"
	"testing"
	"time"
)

func TestALinkMovesAlongItsDrawingOnly(t *testing.T) {
	legal := map[[2]LinkState]bool{
		{Down, Dialing}: true, {Dialing, Shaking}: true, {Shaking, Up}: true,
		{Dialing, Down}: true, {Shaking, Down}: true, {Up, Down}: true,
	}
	for from := Down; from <= Up; from++ {
		for to := Down; to <= Up; to++ {
			moved := func() (ok bool) {
				defer func() { ok = recover() == nil }()
				k := Link{state: from}
				k.move(to)
				return k.state == to
			}()
			if moved != legal[[2]LinkState{from, to}] {
				t.Errorf("from %d to %d: moved %v", from, to, moved)
			}
		}
	}
}

func TestALinkThatFailsPausesLongerEachTimeAndOneThatWorkedNotAtAll(t *testing.T) {
	k := NewLink("pipe", "node:1")
	for pause := BackOffMin; pause < 4*BackOffMax; pause *= 2 {
		most := min(pause, BackOffMax)
		k.Begin()
		k.Lost(errors.New("refused"), false, 1000)
		if k.MayBegin(1000+int64(most)/2-1) || !k.MayBegin(1000+int64(most)) {
			t.Errorf("after a failure it may begin %v later; the pause is up to %v", time.Duration(k.retryAt-1000), most)
		}
	}
	k.Begin()
	k.Opened(Identity{})
	k.Up(2000)
	k.Lost(errors.New("reset"), true, int64(time.Hour))
	if !k.MayBegin(int64(time.Hour)) || k.Since() != int64(time.Hour) {
		t.Errorf("retryAt %d, since %d", k.retryAt, k.Since())
	}
}

func TestALinkThatWasGivenUpWhileItWasDialledOpensNoMore(t *testing.T) {
	k := NewLink("feed", "node:1")
	k.Begin()
	k.Lost(ErrRetired, true, 1)
	if _, opened := k.Opened(Identity{}); opened || k.State() != Down {
		t.Errorf("opened %v, state %d", opened, k.State())
	}
}
