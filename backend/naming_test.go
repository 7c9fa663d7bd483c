package backend

import (
	"strings"
	"testing"
)

func TestNamesHaveWhatANodeTakes(t *testing.T) {
	for host, want := range map[string]string{
		"web-1.example.com": "berth:web-1.example.com:pipe", "a b\tc:d\xffé": "berth:a-b-c-d--:pipe", "": "berth::pipe",
		strings.Repeat("x", 300): "berth:" + strings.Repeat("x", maxHost) + ":pipe",
	} {
		if got := NewNaming(host, "1").Name("pipe"); got != want {
			t.Errorf("%q: %q", host, got)
		}
	}
	var none *Naming
	if b, replies := none.Append(nil, "pipe"); b != nil || replies != 0 || none.Name("pipe") != "" {
		t.Errorf("without a naming: %q", b)
	}
}

// What names a connection travels with the rest of the handshake, and what the node says to it means
// nothing, but that a user who may not is not made to try again.
func TestANodesRefusalOfNamesMeansNothing(t *testing.T) {
	for _, said := range []string{"+OK\r\n", "-ERR unknown subcommand\r\n", "-NOPERM User u has no permissions\r\n"} {
		logins := Logins{Naming: NewNaming("host", "1.2")}
		logins.Naming.KnowsInfo(true)
		id := logins.Accepted("u", "pw", false, nil)
		id.DB, id.RESP = 3, 2
		begin := func() (h Handshake, sent string) {
			h = logins.Handshake("node:1", id)
			h.Kind, h.AsksNodeID = "lease", true
			first, err := h.Begin()
			if err != nil {
				t.Fatal(err)
			}
			return h, string(first)
		}
		h, sent := begin()
		names := 0
		for _, words := range []string{"SETNAME\r\n$16\r\nberth:host:lease", "LIB-NAME\r\n$5\r\nberth", "LIB-VER\r\n$3\r\n1.2"} {
			names += strings.Count(sent, words)
		}
		if names != 3 {
			t.Errorf("sent %q", sent)
		}
		for _, reply := range []string{"+OK\r\n", "+OK\r\n", ":7\r\n", said, said, said} { // AUTH, SELECT, CLIENT ID
			if h.Over() {
				t.Fatal("it is over too early")
			}
			if next, err := h.Reply([]byte(reply)); err != nil || next != nil {
				t.Fatalf("%q: %q, %v", reply, next, err)
			}
		}
		if !h.Over() || h.NodeID != 7 {
			t.Errorf("over %v, the node's number %d", h.Over(), h.NodeID)
		}
		if _, again := begin(); strings.Contains(again, "SETNAME") == strings.HasPrefix(said, "-NOPERM") {
			t.Errorf("after %q the next one sends %q", said, again)
		}
	}
}
