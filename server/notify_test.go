package main

import (
	"net"
	"path/filepath"
	"regexp"
	"testing"
)

func TestServiceManagerIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	notify("READY=1", "STATUS=well")
	notifyReloading()
	for _, want := range []string{`^READY=1\nSTATUS=well$`, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`} {
		var b [256]byte
		n, err := manager.Read(b[:])
		if err != nil || !regexp.MustCompile(want).Match(b[:n]) {
			t.Errorf("%q, %v; want %s", b[:n], err, want)
		}
	}
}
