package main

import (
	"bytes"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// rightsBook is what the nodes have said of the rights of users. All loops share it.
type rightsBook struct {
	mu    sync.RWMutex // guards users; nothing blocks under it
	users map[string]*rights
}

// rights are what the nodes have said of one user's rights. Only users that a node has accepted are
// asked about. They are forgotten with the user's last client.
type rights struct {
	name    string
	free    atomic.Bool  // the rule forbids nothing
	checked atomic.Int64 // when a node has last said the rule, unix nanoseconds; 0: never
	asked   atomic.Int64 // when berth has last asked for the rule without waiting
	silent  atomic.Bool  // the latest question was not answered in time
	long    atomic.Bool  // the rule is longer than maxRule
	unfit   atomic.Bool  // the backend's user may not run ACL DRYRUN, or the node has no such command

	mu      sync.Mutex // guards what follows; nothing blocks under it
	rule    userRule
	rulings map[string]ruling // by command, and what else they depend on
}

// ruling is a node's answer about one command.
type ruling struct {
	refusal string // "": the user may
	at      int64  // unix nanoseconds
}

// userRule is a user's rule as ACL GETUSER says it.
type userRule struct {
	text        string // all of it but flags and passwords; "": unknown
	commands    string
	allKeys     bool
	prefixes    []string // of keys that the user may read and write: those patterns that end in their only special character
	allChannels bool
	databases   bool // not all databases
	selectors   bool
}

const (
	// rightsFresh is how old a rule may be before it is asked for again. A dangerous command waits
	// for the answer, others are judged by the old rule meanwhile.
	rightsFresh = time.Second

	// maxRule is how long a node's answer about a rule may be. berth keeps no longer one, and refuses
	// what it would judge by it.
	maxRule = 256 << 10

	maxRulings    = 1024
	maxRulingName = 128
)

const errLongRule = "ERR berth: the user's rule has more than 262144 bytes, it cannot be known what the user may run"

// of returns the rights of a user, of whom perhaps nothing is known yet.
func (b *rightsBook) of(user string) *rights {
	b.mu.RLock()
	u := b.users[user]
	b.mu.RUnlock()
	if u != nil {
		return u
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if u = b.users[user]; u == nil {
		if b.users == nil {
			b.users = map[string]*rights{}
		}
		u = &rights{name: user, rulings: map[string]ruling{}}
		b.users[user] = u
	}
	return u
}

// forget drops what is known of users; without a name, of all. An answer to a question that was
// asked before goes to the dropped rights, where nobody finds it.
func (b *rightsBook) forget(users ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(users) == 0 {
		b.users = nil
	}
	for _, user := range users {
		delete(b.users, user)
	}
}

// fresh reports whether the rule is known and need not be asked for again.
func (u *rights) fresh(now int64) bool { return now-u.checked.Load() <= int64(rightsFresh) }

// ruled reports whether the rule is known.
func (u *rights) ruled() bool { return u.checked.Load() != 0 }

// suspect has the next judgement ask again, because a node has shown that the rule has changed.
func (u *rights) suspect() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.free.Store(false)
	clear(u.rulings)
}

// key returns what a ruling is remembered under: the command, and what else of a request the rule
// makes it depend on. Keys and channels are none of it.
func (u *rights) key(cmd *router.Command, args [][]byte, db int) string {
	u.mu.Lock()
	defer u.mu.Unlock()
	first := ""
	if len(args) > 1 {
		first = string(args[1])
	}
	switch {
	case u.rule.databases:
		return cmd.Name + " " + string(codec.AppendInt(nil, int64(db))) + first
	case cmd.Container() == nil && strings.Contains(u.rule.commands, "+"+cmd.Name+"|"):
		return cmd.Name + " " + strings.ToLower(first)
	}
	return cmd.Name
}

// remembered returns what is known about a request, and whether the rule is fresh.
func (u *rights) remembered(key string, cmd *router.Command, args [][]byte, now int64) (refusal string, known, fresh bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r, known := u.rulings[key]
	if known && r.refusal == "" && isKeyed(cmd) && !u.rule.covers(cmd, args) {
		return "", false, false
	}
	if u.ruled() {
		return r.refusal, known, u.fresh(now)
	}
	return r.refusal, known, now-r.at <= int64(rightsFresh)
}

// remember keeps a node's answer. Where keys and channels were judged, too, it keeps what was said of the
// command.
func (u *rights) remember(key string, cmd *router.Command, refusal string, now int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if isKeyed(cmd) && !strings.Contains(refusal, " database") {
		if u.rule.selectors { // which command is allowed depends on the keys
			return
		}
		if refusal != "" && !strings.Contains(refusal, " to run the ") {
			refusal = ""
		}
	}
	if _, known := u.rulings[key]; known || len(u.rulings) < maxRulings && len(key) <= maxRulingName {
		u.rulings[key] = ruling{refusal, now}
	}
}

// covers reports whether the rule surely allows the request's keys and channels. Only what a node
// judges again is let pass for that.
func (r *userRule) covers(cmd *router.Command, args [][]byte) bool {
	if cmd.Flags.Has(router.PubSub) {
		return r.allChannels
	}
	if r.allKeys {
		return true
	}
	keys, err := cmd.Keys(args, nil)
	if err != nil {
		return false
	}
	for _, at := range keys {
		if !slices.ContainsFunc(r.prefixes, func(prefix string) bool { return strings.HasPrefix(string(args[at]), prefix) }) {
			return false
		}
	}
	return true
}

// askRule returns the question for a user's rule.
func askRule(user string) []byte { return codec.AppendCommandString(nil, "ACL", "GETUSER", user) }

// learn takes the answer to askRule. A rule that has changed takes with it all that was said by the
// old one.
func (u *rights) learn(srv *server, reply []byte, now int64) {
	v, err := codec.ParseValue(reply)
	switch {
	case err != nil:
		return
	case v.Null:
		srv.rights.forget(u.name)
		return
	case v.IsError():
		if strings.HasPrefix(v.Text(), "NO") || strings.HasPrefix(strings.ToLower(v.Text()), "err unknown") {
			u.free.Store(false)
			u.checked.Store(0) // it cannot be asked for any more: answers are remembered for a second each
		}
		return
	}
	rule := readRule(v)
	u.mu.Lock()
	defer u.mu.Unlock()
	if rule.text != u.rule.text {
		clear(u.rulings)
		u.rule = rule
	}
	u.free.Store(rule.commands == "+@all" && rule.allKeys && rule.allChannels && !rule.databases)
	u.checked.Store(now)
	u.silent.Store(false)
}

// readRule reads a reply to ACL GETUSER: patterns stand in one text since 7.0, in an array before;
// channels are there since 6.2, databases since Valkey 9.
func readRule(v codec.Value) (r userRule) {
	r.allChannels = true
	var text strings.Builder
	for i := 0; i+1 < len(v.Elems); i += 2 {
		name, value := v.Elems[i].Text(), v.Elems[i+1]
		if name == "passwords" || name == "flags" {
			continue
		}
		words := wordsOf(value)
		text.WriteString(name + "=" + strings.Join(words, " ") + "\n")
		switch name {
		case "commands":
			r.commands = value.Text()
		case "keys":
			for _, word := range words {
				r.addPattern(word, value.Type == '*')
			}
		case "channels":
			r.allChannels = slices.Contains(words, "&*") || value.Type == '*' && slices.Contains(words, "*")
		case "databases":
			r.databases = value.Text() != "alldbs"
		case "selectors":
			r.selectors = len(value.Elems) > 0
		}
	}
	r.text = text.String()
	return r
}

// addPattern takes a pattern of keys, "~app:*", or "app:*" when it is bare.
func (r *userRule) addPattern(word string, bare bool) {
	pattern, full := strings.CutPrefix(word, "~")
	if !full && !bare {
		return // for reading or writing only
	}
	r.allKeys = r.allKeys || pattern == "*"
	if prefix, open := strings.CutSuffix(pattern, "*"); open && !strings.ContainsAny(prefix, "*?[\\") {
		r.prefixes = append(r.prefixes, prefix)
	}
}

// wordsOf are the words of a text, or of all texts in an array.
func wordsOf(v codec.Value) (words []string) {
	if len(v.Elems) == 0 {
		return strings.Fields(v.Text())
	}
	for _, e := range v.Elems {
		words = append(words, wordsOf(e)...)
	}
	return words
}

// refusalOf returns what a node says to a user to whom a dry run is answered like this. Dry runs
// name the key, the channel or the database, replies do not.
func refusalOf(dryRun string) string {
	since72 := strings.HasPrefix(dryRun, "User ")
	_, what, _ := strings.Cut(dryRun, " has no permissions to ")
	switch {
	case strings.HasPrefix(what, "run the "):
		if since72 {
			return "NOPERM " + dryRun
		}
		return "NOPERM this user has no permissions to " + what
	case strings.HasPrefix(what, "access database"):
		return "NOPERM No permissions to access database"
	case strings.HasSuffix(what, "' channel") && since72:
		return "NOPERM No permissions to access a channel"
	case strings.HasSuffix(what, "' channel"):
		return "NOPERM this user has no permissions to access one of the channels used as arguments"
	case since72:
		return "NOPERM No permissions to access a key"
	}
	return "NOPERM this user has no permissions to access one of the keys used as arguments"
}

// refreshRights asks for the user's rule, if it is no longer fresh, and waits for nothing.
func (s *session) refreshRights(u *rights) {
	l := s.loop
	asked := u.asked.Load()
	if u.fresh(l.clock) || l.clock-asked <= int64(rightsFresh) || !u.asked.CompareAndSwap(asked, l.clock) {
		return
	}
	t := l.srv.nodes.Topology()
	if shard, text := shardOf(t, noSlot, s.id); text == "" {
		set := l.pipes.Attach(l.srv.asker(s.pipes.Identity().DB))
		_ = set.Shard(t, shard).Send(askRule(u.name), 1, &refreshed{u: u, l: l}) // if it fails, the next one comes in a second
		set.Detach()
	}
}

// refreshed waits for a user's rule. It is a backend.Streamer, so that no long one is gathered.
type refreshed struct {
	u    *rights
	l    *loop
	long bool // a part was dropped
}

// Reply takes the rule.
func (r *refreshed) Reply(reply, _ []byte, _ int) {
	long := r.long || len(reply) > maxRule
	r.u.long.Store(long)
	if long {
		r.u.suspect()
		r.u.checked.Store(0)
		return
	}
	r.u.learn(r.l.srv, reply, r.l.clock)
}

// Part drops a part of a rule that is too long.
func (r *refreshed) Part(_, _ []byte, _ int) bool {
	r.long = true
	return true
}

// Lost leaves the rule as it was known.
func (r *refreshed) Lost(*backend.LostError, []byte) {}

// changeRules has every primary change what users may do, and every replica if clients may read there:
// nodes do not tell each other. What berth knows of these users it asks anew. The session takes no
// further request before.
func (s *session) changeRules(cmd *router.Command, raw []byte, args [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	srv := s.loop.srv
	t := srv.nodes.Topology()
	if len(t.Shards()) == 0 {
		return s.refuse(cmd, errNotServed)
	}
	var users []string              // none: all
	for _, word := range args[2:] { // of ACL SETUSER its rule as well, which names nobody
		users = append(users, string(word))
	}
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	asked := s.primaries(t)
	if srv.readsReplicas.Load() || srv.replicas.Look() != nil {
		asked = append(asked, s.replicas(t)...)
	}
	askOn(asked, raw, func(answers [][]byte) {
		srv.replicas.Distrust()
		reply := firstError(answers)
		if !bytes.HasPrefix(reply, []byte("-NOPERM ")) { // of an error of one node others may know nothing
			srv.rights.forget(users...)
			srv.forgetNear()
		}
		if reply == nil {
			reply = answers[0]
		}
		r.done(reply)
	})
	return true
}
