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

func TestHandshakeOfBerthsTriesThePasswordsThatAreKnownTheLatestFirst(t *testing.T) {
	var l Logins
	for i := range 5 {
		l.Release(l.Accepted("ann", fmt.Sprint("p", i)))
		l.Hold(Identity{User: "ann"})
	}
	sent, err := shake(t, l.Handshake("node:1", Identity{User: "ann", DB: 2, RESP: 2}),
		[]string{wrongPass, "-NOAUTH Authentication required."}, []string{"+OK", "+OK"})
	const want = "*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$2\r\np%d\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n"
	if err != nil || sent[0] != fmt.Sprintf(want, 4) || sent[1] != fmt.Sprintf(want, 3) {
		t.Fatalf("%q, %v", sent, err)
	}
	if p, _ := l.Password(Identity{User: "ann"}); p != "p3" { // the node accepted it last
		t.Errorf("the latest is %q", p)
	}
	if known, _ := l.known(Identity{User: "ann"}, "node:1"); len(known) != maxTries {
		t.Errorf("%d passwords are tried", len(known))
	}
}

// markOf is what a node says that was told DELUSER and RESETSTAT so often.
func markOf(runID string, deletes, resets, infos int) (m UsersMark) {
	m.Take("$99\r\n# Server\r\nrun_id:" + runID + "\r\nother:1\r\n")
	m.Take(fmt.Sprintf("# Commandstats\r\ncmdstat_acl|deluser:calls=%d,usec=1\r\ncmdstat_config|resetstat:calls=%d,usec=7\r\n"+
		"cmdstat_info:calls=%d,usec=7\r\ncmdstat_get:calls=7,usec=7\r\n", deletes, resets, infos))
	return m
}

func TestAMarkHoldsWhileNoUserIsDeleted(t *testing.T) {
	was := markOf("run", 3, 1, 10)
	old := markOf("run", 3, 1, 11)
	old.Take("cmdstat_acl:calls=3,usec=1\r\n")
	loaded := markOf("run", 3, 1, 11)
	loaded.Take("cmdstat_acl|load:calls=1,usec=1\r\n")
	for _, test := range []struct {
		why        string
		was, later UsersMark
		holds      bool
	}{
		{"nothing happened", was, markOf("run", 3, 1, 12), true},
		{"a user was deleted", was, markOf("run", 4, 1, 12), false},
		{"the users were loaded", was, loaded, false},
		{"another process", was, markOf("another", 3, 1, 12), false},
		{"counts begun anew", was, markOf("run", 3, 2, 12), false},
		{"counts begun anew once more", was, markOf("run", 3, 1, 2), false},
		{"a node that counts all ACL commands together", was, old, false},
		{"it said nothing", UsersMark{}, UsersMark{}, false},
	} {
		if got := test.was.Holds(test.later); got != test.holds {
			t.Errorf("%s: %t", test.why, got)
		}
	}
}

// A client whose password was replaced is let in with a later one, unless the node may have deleted
// the user meanwhile: the later one would be another's then.
func TestAReplacedPasswordNeedsAProofThatNobodyWasDeleted(t *testing.T) {
	info := func(m string) string { return fmt.Sprintf("$%d\r\n%s", len(m), m) }
	const auth, refused = "*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$3\r\n%s\r\n", wrongPass
	for _, test := range []struct {
		why     string
		own     bool
		replies [][]string // to the proof
		in      bool
	}{
		{"nobody was deleted", true, [][]string{{"+OK"}, {info("run_id:run")}, {info("cmdstat_config|resetstat:calls=0,usec=1\r\ncmdstat_acl|deluser:calls=3,usec=1")}}, true},
		{"berth needs no password", false, [][]string{{info("run_id:run")}, {info("cmdstat_config|resetstat:calls=0,usec=1\r\ncmdstat_acl|deluser:calls=3,usec=1")}}, true},
		{"somebody was", true, [][]string{{"+OK"}, {info("run_id:run")}, {info("cmdstat_config|resetstat:calls=0,usec=1\r\ncmdstat_acl|deluser:calls=4,usec=1")}}, false},
		{"berth may not ask", true, [][]string{{"+OK"}, {"-NOPERM no"}}, false},
		{"berth's own password is refused", true, [][]string{{wrongPass}}, false},
	} {
		var l Logins
		if test.own {
			l.Own("", "berths")
		}
		id := l.Accepted("ann", "old")
		id.RESP = 2
		l.Seen("node:1", markOf("run", 3, 0, 0))
		attempts := append([][]string{{refused}}, test.replies...)
		if test.in {
			attempts = append(attempts, []string{"+OK"})
		}
		if sent, err := shake(t, l.Handshake("node:1", id), []string{refused}); !loginRefused(err) || len(sent) != 1 {
			t.Fatalf("no other password: %q, %v", sent, err)
		}
		l.Accepted("ann", "new")
		sent, err := shake(t, l.Handshake("node:1", id), attempts...)
		if test.in != (err == nil) || !test.in && !loginRefused(err) {
			t.Fatalf("%s: %q, %v", test.why, sent, err)
		}
		if first := fmt.Sprintf(auth, "old"); sent[0] != first {
			t.Errorf("%s: first %q", test.why, sent[0])
		}
		if last := sent[len(sent)-1]; test.in && last != fmt.Sprintf(auth, "new") {
			t.Errorf("%s: at last %q", test.why, last)
		}
		if _, err := shake(t, l.Handshake("node:2", id), []string{refused}); !loginRefused(err) {
			t.Errorf("%s: a node that has said nothing: %v", test.why, err)
		}
	}
}

func TestPasswordsBeyondTheFewShareACredential(t *testing.T) {
	var l Logins
	seen := map[uint32]bool{}
	for i := range 50 {
		seen[l.Accepted("ann", fmt.Sprint(i)).Credential] = true
	}
	if len(seen) != maxPasswords || len(l.users["ann"].credentials) != maxPasswords {
		t.Errorf("%d credentials, %d known", len(seen), len(l.users["ann"].credentials))
	}
	a, b := l.Accepted("bob", "x"), l.Accepted("bob", "x")
	if a != b || a.Credential == 0 || seen[a.Credential] {
		t.Errorf("%v and %v", a, b)
	}
	if got := l.Accepted("", "x"); got != (Identity{}) {
		t.Errorf("the default user: %v", got)
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
	l.OnFree = func(user string, credential uint32) { freed = append(freed, fmt.Sprint(user, credential)) }
	ann := Identity{User: "ann"}
	l.Hold(ann)
	one := l.Accepted("ann", "p")
	two := l.Accepted("ann", "q")
	l.Release(one)
	if _, known := l.Password(ann); !known || fmt.Sprint(freed) != "[ann1]" {
		t.Fatalf("forgotten while it is held: %v", freed)
	}
	l.Release(ann)
	l.Release(two)
	if _, known := l.Password(ann); known || len(l.users) > 0 || fmt.Sprint(freed) != "[ann1 ann2 ann0]" {
		t.Fatalf("still known, and freed are %v", freed)
	}
}
