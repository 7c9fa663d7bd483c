package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

// probes is after how many seconds the kernel probes a client, by berth's socket; 0: never.
func (b *berthServer) probes(t *testing.T, addr string) (idle int) {
	t.Helper()
	for _, l := range b.srv.eachLoop() {
		got := make(chan int)
		l.Post(func() {
			seconds := -1
			for s := l.first; s != nil; s = s.next {
				if s.conn.RemoteAddr().String() == addr {
					if seconds, _ = unix.GetsockoptInt(s.conn.Fd(), unix.SOL_SOCKET, unix.SO_KEEPALIVE); seconds > 0 {
						seconds, _ = unix.GetsockoptInt(s.conn.Fd(), unix.IPPROTO_TCP, keepIdle)
					}
				}
			}
			got <- seconds
		})
		if seconds := <-got; seconds >= 0 {
			return seconds
		}
	}
	t.Fatalf("berth has no client %s", addr)
	return 0
}

func TestKeepaliveIsThatOfTheSettingWhenTheClientCame(t *testing.T) {
	b := startBerth(t, sharedNode(t).Addr(), "--tcp-keepalive", "100")
	for _, seconds := range []string{"", "7", "0", "300"} {
		if seconds != "" {
			b.set("tcp-keepalive", seconds)
		}
		want := map[string]int{"": 100, "7": 7, "0": 0, "300": 300}[seconds]
		d := dial(t, b.Addr())
		d.Do("PING")
		if got := b.probes(t, d.LocalAddr()); got != want {
			t.Errorf("tcp-keepalive %q: probes after %d s, want %d", seconds, got, want)
		}
	}
}
