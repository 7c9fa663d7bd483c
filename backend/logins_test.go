package backend

import (
	"errors"
	"fmt"
	"testing"
)

// shake carries a handshake out; node answers each command of an attempt, in order.
func shake(t *testing.T, h Handshake, attempts ...[]string) (sent []string, err error) {
	t.Helper()
	b, err := h.Begin()
	for _, replies := range attempts {
		sent = append(sent, string(b))
		for i, reply := range replies {
			if b, err = h.Reply([]byte(reply + "\r\n")); err != nil {
				return sent, err
			}
			if len(b) > 0 && i < len(replies)-1 {
				t.Fatalf("%q is written before all replies to the attempt have come", b)
			}
		}
	}
	if err == nil && !h.Over() {
		t.Fatalf("the handshake is not over after %q", sent)
	}
	return sent, err
}

const wrongPass = "-WRONGPASS invalid username-password pair or user is disabled."

func TestHandshakeTriesThePasswordsThatAreKnownTheLatestFirst(t *testing.T) {
	var l Logins
	for i := range 5 {
		l.Accepted("ann", fmt.Sprint("p", i))
	}
	sent, err := shake(t, l.Handshake("node:1", Identity{User: "ann", DB: 2, RESP: 2}),
		[]string{wrongPass, "-NOAUTH Authentication required."}, []string{"+OK", "+OK"})
	const want = "*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$2\r\np%d\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n"
	if err != nil || sent[0] != fmt.Sprintf(want, 4) || sent[1] != fmt.Sprintf(want, 3) {
		t.Fatalf("%q, %v", sent, err)
	}
	if p, _ := l.Latest("ann"); p != "p3" { // the node accepted it last
		t.Errorf("the latest is %q", p)
	}
	if known, _ := l.known("ann", "node:1"); len(known) != maxPasswords {
		t.Errorf("%d passwords are kept", len(known))
	}
}

func TestNodeThatHasRefusedAllPasswordsIsNotAskedAgainAtOnce(t *testing.T) {
	var l Logins
	l.Accepted("ann", "old")
	id := Identity{User: "ann", RESP: 2}
	if sent, err := shake(t, l.Handshake("node:1", id), []string{wrongPass}); !loginRefused(err) || len(sent) != 1 {
		t.Fatalf("%q, %v", sent, err)
	}
	if b, err := new(l.Handshake("node:1", id)).Begin(); b != nil || !loginRefused(err) {
		t.Fatalf("asked again: %q, %v", b, err)
	}
	if b, err := new(l.Handshake("node:2", id)).Begin(); b == nil || err != nil {
		t.Fatalf("another node: %q, %v", b, err)
	}
	l.Accepted("ann", "new")
	if _, err := shake(t, l.Handshake("node:1", id), []string{"+OK"}); err != nil {
		t.Fatal(err)
	}
}

func loginRefused(err error) bool {
	lost, ok := errors.AsType[*LostError](err)
	return ok && lost.Login && "-"+lost.Refusal == wrongPass
}

func TestAnErrorThatIsNotAboutThePasswordIsNoRefusedLogin(t *testing.T) {
	var l Logins
	l.Accepted("ann", "p")
	for _, id := range []Identity{{RESP: 2}, {User: "ann", RESP: 2}} {
		_, err := shake(t, l.Handshake("node:1", id), []string{"-ERR max number of clients reached"})
		if lost, ok := errors.AsType[*LostError](err); !ok || lost.Login || lost.Refusal != "ERR max number of clients reached" {
			t.Errorf("%+v: %v", id, err)
		}
	}
	for _, reply := range []string{"+PONG", "-NOPERM no", "-LOADING x", "-BUSY x"} {
		if _, err := shake(t, l.Handshake("node:1", Identity{RESP: 2}), []string{reply}); err != nil {
			t.Errorf("%s: %v", reply, err)
		}
	}
}

func TestTheDefaultUserGivesAPasswordOnlyWhereOneIsWanted(t *testing.T) {
	var l Logins
	var demands []bool
	l.OnDemand = func(wanted bool) { demands = append(demands, wanted) }
	l.Accepted("", "secret")
	const ping = "*1\r\n$4\r\nPING\r\n"
	if sent, err := shake(t, l.Handshake("node:1", Identity{RESP: 2}), []string{"+PONG"}); err != nil || len(sent) != 1 || sent[0] != ping {
		t.Fatalf("%q, %v", sent, err)
	}
	sent, err := shake(t, l.Handshake("node:1", Identity{RESP: 2}), []string{"-NOAUTH Authentication required."}, []string{"+OK"})
	if err != nil || sent[1] != "*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n" {
		t.Fatalf("%q, %v", sent, err)
	}
	if fmt.Sprint(demands) != "[false true]" {
		t.Errorf("the node's demands are %v", demands)
	}
}

func TestAUserIsForgottenWithTheLastWhoHoldsIt(t *testing.T) {
	var l Logins
	var freed []string
	l.OnFree = func(user string) { freed = append(freed, user) }
	l.Hold("ann")
	l.Hold("ann")
	l.Accepted("ann", "p")
	l.Release("ann")
	if _, known := l.Latest("ann"); !known || len(freed) > 0 {
		t.Fatal("forgotten while it is held")
	}
	l.Release("ann")
	if _, known := l.Latest("ann"); known || len(l.users) > 0 || fmt.Sprint(freed) != "[ann]" {
		t.Fatalf("still known, and freed are %v", freed)
	}
}
