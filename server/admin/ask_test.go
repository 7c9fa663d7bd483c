package admin

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

func TestTheEndpointIsAskedWhetherBerthIsReady(t *testing.T) {
	var reason atomic.Pointer[error]
	a := startAdmin(t, func() error {
		if why := reason.Load(); why != nil {
			return *why
		}
		return nil
	})
	port := a.listeners[0].Addr().(*net.TCPAddr).Port
	for _, bind := range [][]string{{"127.0.0.1"}, {"*"}, {"-::1", "127.0.0.1"}} {
		if err := AskReady(bind, port); err != nil {
			t.Errorf("%v: %v", bind, err)
		}
	}
	why := errors.New("no node answers")
	reason.Store(&why)
	if err := AskReady([]string{"127.0.0.1"}, port); err == nil || err.Error() != "not ready: no node answers" {
		t.Errorf("not ready: %v", err)
	}
	a.Close()
	if err := AskReady([]string{"127.0.0.1"}, port); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("nobody there: %v", err)
	}
	if AskReady([]string{"127.0.0.1"}, 0) == nil || AskReady(nil, port) == nil {
		t.Error("nobody was asked, and is ready")
	}
}
