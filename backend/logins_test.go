package backend

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
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
		l.Release(l.Accepted("ann", fmt.Sprint("p", i), false, nil))
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
	if known, _ := l.known(Identity{User: "ann"}, "node:1", 0); len(known) != maxTries {
		t.Errorf("%d passwords are tried", len(known))
	}
}

// markOf is what a node says that was told DELUSER so often, and what else it says.
func markOf(runID string, deletes int, more ...string) (m UsersMark) {
	m.Take("# Server\r\nrun_id:" + runID + "\r\nother:1\r\n")
	m.Take(fmt.Sprintf("# Commandstats\r\ncmdstat_acl|deluser:calls=%d,usec=1\r\ncmdstat_info:calls=7,usec=7\r\n", deletes) +
		strings.Join(more, "\r\n") + "\r\n")
	return m
}

func TestAMarkHoldsWhileNoUserIsDeleted(t *testing.T) {
	was := markOf("run", 3)
	const reset = "cmdstat_config|resetstat:calls=1,usec=1"
	for _, test := range []struct {
		why        string
		was, later UsersMark
		holds      bool
	}{
		{"nothing happened", was, markOf("run", 3, "cmdstat_get:calls=7,usec=7"), true},
		{"a user was deleted", was, markOf("run", 4), false},
		{"the users were loaded", was, markOf("run", 3, "cmdstat_acl|load:calls=1,usec=1"), false},
		{"another process", was, markOf("another", 3), false},
		{"counts begun anew", was, markOf("run", 3, reset), false},
		{"counts begun anew before", markOf("run", 3, reset), markOf("run", 3, reset), false},
		{"somebody may not do it", was, markOf("run", 3, "cmdstat_acl|load:calls=0,usec=0,rejected_calls=1", "cmdstat_config|resetstat:calls=0,usec=0",
			"cmdstat_acl:calls=0,usec=0"), true},
		{"a node that counts all ACL commands together", markOf("run", 3, "cmdstat_acl:calls=3"), markOf("run", 3, "cmdstat_acl:calls=3"), false},
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
	const auth, refused, ok = "*3\r\n$4\r\nAUTH\r\n$3\r\nann\r\n$3\r\n%s\r\n", wrongPass, "+OK"
	info := func(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }
	exec := func(deletes int, last string) []string {
		return []string{ok, "+QUEUED", "+QUEUED", "+QUEUED",
			"*3\r\n" + info("run_id:run") + info(fmt.Sprintf("cmdstat_acl|deluser:calls=%d,usec=1", deletes)) + last}
	}
	for _, test := range []struct {
		why     string
		replies [][]string // to the proof
		in      bool
	}{
		{"nobody was deleted", [][]string{{ok}, {ok}, exec(3, ok)}, true},
		{"somebody was", [][]string{{ok}, {ok}, exec(4, ok)}, false},
		{"the other password is refused", [][]string{{refused}}, false},
		{"it is refused in the end", [][]string{{ok}, {ok}, exec(3, refused)}, false},
		{"berth may not ask", [][]string{{ok}, {ok}, {ok, "-NOPERM no"}}, false},
		{"berth's own password is refused", [][]string{{ok}, {refused}}, false},
		{"no transaction", [][]string{{ok}, {ok}, {ok, "+QUEUED", "+QUEUED", "+QUEUED", "-EXECABORT no"}}, false},
		{"too few replies", [][]string{{ok}, {ok}, {ok, "+QUEUED", "+QUEUED", "+QUEUED", "*1\r\n" + ok}}, false},
	} {
		var l Logins
		l.Own("", "berths")
		l.Seen("node:1", markOf("run", 3))
		id := l.Accepted("ann", "old", false, l.Marks())
		id.RESP, id.DB = 3, 2
		if sent, err := shake(t, l.Handshake("node:1", id), []string{refused, ok, ok}); !loginRefused(err) || len(sent) != 1 {
			t.Fatalf("no other password: %q, %v", sent, err)
		}
		l.Accepted("ann", "new", false, nil)
		attempts := append([][]string{{refused, ok, ok}}, test.replies...)
		if test.in {
			attempts = append(attempts, []string{ok, ok})
		}
		sent, err := shake(t, l.Handshake("node:1", id), attempts...)
		if test.in != (err == nil) || !test.in && !loginRefused(err) {
			t.Fatalf("%s: %q, %v", test.why, sent, err)
		}
		if first := fmt.Sprintf(auth, "old"); !strings.HasPrefix(sent[0], first) {
			t.Errorf("%s: first %q", test.why, sent[0])
		}
		if test.in && (!strings.Contains(sent[3], fmt.Sprintf(auth, "new")) || sent[4] != "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n") {
			t.Errorf("%s: at last %q", test.why, sent[3:])
		}
		if err := l.Refused(id, "node:1"); test.in != (err == nil) {
			t.Errorf("%s: refused lately: %v", test.why, err)
		}
		if _, err := shake(t, l.Handshake("node:2", id), []string{refused, ok, ok}); !loginRefused(err) {
			t.Errorf("%s: a node that has said nothing: %v", test.why, err)
		}
	}
}

// Who may not SELECT is brought to its database in the proof itself: after it the connection would not be
// the user's all the time.
func TestAProofBringsAClientToItsDatabase(t *testing.T) {
	const noSelect, refused, ok = "-NOPERM no select", wrongPass, "+OK"
	var l Logins
	l.Own("", "berths")
	l.Seen("node:1", markOf("run", 3))
	id := l.Accepted("ann", "old", false, l.Marks())
	id.RESP, id.DB = 2, 2
	l.Accepted("ann", "new", false, nil)
	mark := "$12\r\nrun_id:run\r\n\r\n$36\r\ncmdstat_acl|deluser:calls=3,usec=1\r\n\r\n"
	proof := func(first string) [][]string {
		queued := []string{ok, "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*4\r\n" + first + "\r\n" + mark + ok}
		plain := []string{ok, "+QUEUED", "+QUEUED", "+QUEUED", "*3\r\n" + mark + ok}
		return [][]string{{refused, ok}, {ok}, {ok}, plain, {noSelect}, {ok}, queued}
	}
	sent, err := shake(t, l.Handshake("node:1", id), proof(ok)...)
	if err != nil || !strings.Contains(sent[6], "SELECT\r\n$1\r\n2\r\n") || strings.Contains(sent[3], "SELECT") {
		t.Errorf("%q, %v", sent, err)
	}
	if _, err := shake(t, l.Handshake("node:1", id), proof("-NOPERM nor I")...); err == nil || loginRefused(err) || l.Refused(id, "node:1") == nil {
		t.Errorf("berth may not either: %v", err)
	}
	if id.DB = 0; l.Refused(id, "node:1") != nil {
		t.Error("another database is refused as well")
	}
	id.DB = 2
	deleted := proof(ok)
	deleted[6][5] = strings.Replace(deleted[6][5], "calls=3", "calls=4", 1) // meanwhile
	if _, err := shake(t, l.Handshake("node:1", id), deleted...); !loginRefused(err) {
		t.Errorf("the user was deleted between the two proofs: %v", err)
	}
}

// A node's first mark proves nothing about a client that was there before, unless berth has just begun.
func TestANodesFirstMarkIsForNewCredentialsAlone(t *testing.T) {
	var l Logins
	l.Seen("node:2", UsersMark{}) // it says nothing
	early := l.Accepted("bob", "old", false, nil)
	l.Accepted("bob", "new", false, nil)
	l.Seen("node:0", markOf("run", 3))
	if passwords, _ := l.others(early, "node:0"); len(passwords) != 1 {
		t.Errorf("when berth begins: %q", passwords)
	}
	if passwords, _ := l.others(early, "node:2"); len(passwords) != 0 {
		t.Errorf("of a node that said nothing: %q", passwords)
	}
	id := l.Accepted("ann", "old", false, nil)
	l.Accepted("ann", "new", false, nil)
	l.marked = time.Now().Add(-firstMarks - time.Second)
	l.Seen("node:1", markOf("run", 3))
	if passwords, was := l.others(id, "node:1"); len(passwords) > 0 || was.known() {
		t.Errorf("%q, %v", passwords, was)
	}
	l.worked("ann", "old", "node:1", markOf("run", 3)) // the node knows it by its own password
	if passwords, was := l.others(id, "node:1"); fmt.Sprint(passwords) != "[new]" || was != markOf("run", 3) {
		t.Errorf("%q, %v", passwords, was)
	}
}

// Nobody has the credential of a password that is not its own.
func TestWhoHasNoCredentialOfItsOwnHasTheCommonOne(t *testing.T) {
	var l Logins
	seen := map[uint32]bool{}
	for i := range 50 {
		id := l.Accepted("ann", fmt.Sprint(i), false, nil)
		seen[id.Credential] = true
		if p, _ := l.Password(id); p != fmt.Sprint(i) && i < maxPasswords || p == "15" && i > 15 {
			t.Errorf("password %d has the credential of %s", i, p)
		}
	}
	if len(seen) != maxPasswords+1 || len(l.users["ann"].credentials) != maxPasswords {
		t.Errorf("%d credentials, %d known", len(seen), len(l.users["ann"].credentials))
	}
	a, b := l.Accepted("bob", "x", true, nil), l.Accepted("bob", "y", true, nil)
	if a != b || a.Credential == 0 || seen[a.Credential] {
		t.Errorf("where any password does: %v and %v", a, b)
	}
	if p, _ := l.Password(a); p == "x" || p == "y" {
		t.Errorf("they log in with %s", p)
	}
	if got := l.Accepted("bob", "x", false, nil); got == a || got.Credential == 0 {
		t.Errorf("where it no longer does: %v", got)
	}
	if got := l.Accepted("", "x", false, nil); got != (Identity{}) {
		t.Errorf("the default user: %v", got)
	}
}

func TestNodeThatHasRefusedAllPasswordsIsNotAskedAgainAtOnce(t *testing.T) {
	var l Logins
	l.Accepted("ann", "old", false, nil)
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
	l.Accepted("ann", "new", false, nil)
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
	l.Accepted("ann", "p", false, nil)
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
	l.OnDemand = func(_ string, wanted bool) { demands = append(demands, wanted) }
	l.Accepted("", "secret", false, nil)
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
	one := l.Accepted("ann", "p", false, nil)
	two := l.Accepted("ann", "q", false, nil)
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

func TestMoveTakesNoProofOfTheOldNodesAlong(t *testing.T) {
	var l Logins
	l.Own("", "old own")
	before := Identity{}
	ann := l.Accepted("ann", "hers", false, nil)
	l.Accepted("", "given", false, nil)
	known := func(id Identity, moves int) string {
		passwords, _ := l.known(id, "node:1", moves)
		return strings.Join(passwords, ",")
	}
	if got := known(before, 0); got != "given,old own" {
		t.Fatalf("before: %s", got)
	}
	l.Moved("", "kept", true)
	if got := known(before, 1); got != "given,kept" {
		t.Errorf("after a move to nodes that accept what was given: %s", got)
	}
	l.Moved("", "new own", false)
	after := Identity{Credential: l.Default()}
	if got := known(before, 2); got != "" {
		t.Errorf("a connection of clients that have proved nothing logs in with %s", got)
	}
	if got := known(after, 2); got != "new own" {
		t.Errorf("a connection of clients to come: %s", got)
	}
	if got := known(after, 1); got != "" {
		t.Errorf("a connection that began before the move: %s", got)
	}
	if got := known(ann, 2); got != "hers" {
		t.Errorf("a named user: %s", got)
	}
	if id := l.Accepted("", "given", false, nil); id != after {
		t.Errorf("who logs in after the move: %v", id)
	}
	l.Seen("node:1", UsersMark{runID: "r"})
	if passwords, _ := l.others(ann, "node:1"); len(passwords) > 0 {
		t.Errorf("another password of the user: %v", passwords)
	}
}
