package main

import (
	"bytes"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/bytedance/gopkg/util/gopool"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// optionSet says which options CLIENT LIST and CLIENT KILL have. Each set has those of the one
// before.
type optionSet uint8

const (
	firstOptions  optionSet = iota // LIST has TYPE or ID
	agedOptions                    // KILL has MAXAGE: Redis 7.4, Valkey 8.0
	sharedOptions                  // LIST has the options of KILL, any number of them; ID has several numbers: Valkey 8.1
	allOptions                     // NAME, IDLE, FLAGS … and their NOT- forms: Valkey 9.0
)

// clientOptions returns the set that the nodes have.
func (srv *server) clientOptions() optionSet {
	switch info := srv.nodes.Info(); {
	case srv.isValkeySince(9, 0):
		return allOptions
	case srv.isValkeySince(8, 1):
		return sharedOptions
	case srv.isValkeySince(8, 0), info.Product != "valkey" && !srv.isBefore(7, 4):
		return agedOptions
	}
	return firstOptions
}

// clientOptions are the options after CLIENT LIST or CLIENT KILL being read, and the filter that
// they make. How many there are the client decides: a goroutine reads them, and the loop has them
// afterwards.
//
//	loop: copy the request ──▶ goroutine: read ──▶ loop: a node judges users and databases ──▶ then
type clientOptions struct {
	filter  clientFilter
	order   []int64 // the numbers in the client's order, in which Redis lists clients; nil: in any order
	refusal string  // what to say to the first word that is wrong; "": all are right

	s           *session // asks; read only hands it on
	kill        bool     // CLIENT KILL
	has         optionSet
	primary     bool // there is the type "primary"
	ids, notIDs []int64
	judged      [][]byte // options and values before a wrong word of which only a node knows whether they are right
}

// read reads the options off the loop, and calls then on the loop unless a word is wrong. As
// dispatch does, it returns false when the request has to wait.
func (o *clientOptions) read(s *session, cmd *router.Command, raw []byte, then func(r *request)) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	srv := s.loop.srv
	o.s, o.has, o.primary = s, srv.clientOptions(), srv.isValkeySince(8, 0)
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	words, home := newWordReader(bytes.Clone(raw)), s.loop
	gopool.Go(func() {
		o.readWords(&words)
		home.Post(func() { o.askNode(r, then) })
	})
	return true
}

// readWords reads a whole request.
func (o *clientOptions) readWords(words *wordReader) {
	words.next()
	words.next()
	switch {
	case !words.left():
	case o.kill || o.has >= sharedOptions:
		o.readPairs(words)
	default:
		o.readOne(words)
	}
	if o.ids != nil {
		slices.Sort(o.ids)
		o.filter.set("id", isOneOf(o.ids))
	}
	if o.notIDs != nil {
		slices.Sort(o.notIDs)
		o.filter.set("not-id", not(isOneOf(o.notIDs)))
	}
}

// readOne reads the only option of CLIENT LIST in Redis.
func (o *clientOptions) readOne(words *wordReader) {
	option := strings.ToLower(string(words.next()))
	switch {
	case option == "type" && words.left():
		value := words.next()
		if words.left() {
			o.refusal = errSyntax
			return
		}
		o.refusal = o.readPair(option, value)
	case option == "id" && words.left():
		for words.left() {
			id, ok := parseInt(words.next())
			if !ok {
				o.refusal = "ERR Invalid client ID"
				return
			}
			o.order = append(o.order, id)
		}
		o.ids = slices.Clone(o.order)
	default:
		o.refusal = errSyntax
	}
}

// readPairs reads options with a value each, up to the first that is wrong.
func (o *clientOptions) readPairs(words *wordReader) {
	for n := 0; words.left() && o.refusal == ""; n++ {
		option := strings.ToLower(string(words.next()))
		several := o.has >= sharedOptions && (option == "id" || option == "not-id" && o.has == allOptions)
		switch {
		case several && (words.left() || n > 0):
			o.refusal = o.readIDs(option, words)
		case !words.left():
			o.refusal = errSyntax
		default:
			o.refusal = o.readPair(option, words.next())
		}
	}
}

// readIDs reads all the numbers that follow; what follows them is another option.
func (o *clientOptions) readIDs(option string, words *wordReader) (refusal string) {
	ids := &o.ids
	if option == "not-id" {
		ids = &o.notIDs
	}
	if *ids == nil {
		*ids = []int64{} // without a number no client is meant
	}
	for words.left() {
		before := *words
		id, ok := parseInt(words.next())
		switch {
		case !ok:
			*words = before
			return ""
		case id < 1:
			return errClientIDTooLow
		}
		*ids = append(*ids, id)
	}
	return ""
}

const errClientIDTooLow = "ERR client-id should be greater than 0"

// readPair reads an option and its value.
func (o *clientOptions) readPair(option string, value []byte) (refusal string) {
	switch option {
	case "id":
		id, ok := parseInt(value)
		if !ok || id < 1 {
			return errClientIDTooLow
		}
		o.ids = []int64{id}
		return ""
	case "skipme":
		return o.readSkipMe(value)
	case "maxage":
		if o.has >= agedOptions {
			return o.readSeconds(option, value, isOfAge)
		}
		return errSyntax
	case "idle":
		if o.has == allOptions {
			return o.readSeconds(option, value, isIdle)
		}
		return errSyntax
	}
	name, negative := strings.CutPrefix(option, "not-")
	if o.has < allOptions && (negative || !slices.Contains([]string{"type", "addr", "laddr", "user"}, name)) {
		return errSyntax
	}
	holds, refusal := o.condition(option, name, value)
	if refusal != "" {
		return refusal
	}
	if negative {
		holds = not(holds)
	}
	o.filter.set(option, holds)
	return ""
}

// readSkipMe reads whether the client that asks is meant.
func (o *clientOptions) readSkipMe(value []byte) (refusal string) {
	switch strings.ToLower(string(value)) {
	case "yes":
		o.filter.except = o.s
	case "no":
		o.filter.except = nil
	default:
		return errSyntax
	}
	return ""
}

// condition returns what an option demands. name is the option without its NOT-.
func (o *clientOptions) condition(option, name string, value []byte) (holds condition, refusal string) {
	text := string(value)
	switch name {
	case "type":
		word := strings.ToLower(text)
		kind := clientKinds[word]
		if kind == anyKind || word == "primary" && !o.primary {
			return nil, "ERR Unknown client type '" + text + "'"
		}
		return isOfKind(kind), ""
	case "addr":
		return comesFrom(text), ""
	case "laddr":
		return comesTo(text), ""
	case "user":
		o.judged = append(o.judged, []byte(option), value)
		return isUser(text), ""
	case "name":
		return isLabelled(text, func(l *label) string { return l.name }), ""
	case "lib-name":
		return isLabelled(text, func(l *label) string { return l.libName }), ""
	case "lib-ver":
		return isLabelled(text, func(l *label) string { return l.libVer }), ""
	case "ip":
		return comesFromHost(text), ""
	case "db":
		db, ok := parseInt(value)
		if !ok {
			return nil, "ERR " + strings.ToUpper(option) + " is not an integer or out of range"
		}
		o.judged = append(o.judged, []byte(option), value)
		return isInDB(db), ""
	case "flags":
		if hasOther(text, knownFlags) {
			return nil, unknownLetters(name, option, text)
		}
		return hasLetters(text, (*session).flags), ""
	case "capa":
		if hasOther(text, knownCapabilities) {
			return nil, unknownLetters(name, option, text)
		}
		return hasLetters(text, (*session).capabilities), ""
	}
	return nil, errSyntax
}

// knownFlags are the letters that FLAGS accepts, knownCapabilities those of CAPA.
const (
	knownFlags        = "bcdeirtuxABEIMNOPRSTU"
	knownCapabilities = "r"
)

// unknownLetters is what to say to letters that are none of what there is.
func unknownLetters(what, option, text string) string {
	which := "the provided"
	if option != what {
		which = "the " + strings.ToUpper(option)
	}
	return "ERR Unknown " + what + " found in " + which + " filter: " + text
}

// readSeconds reads a time that is at least so long.
func (o *clientOptions) readSeconds(option string, value []byte, least func(time.Duration) condition) (refusal string) {
	seconds, ok := parseInt(value)
	switch {
	case !ok:
		return "ERR " + option + " is not an integer or out of range"
	case seconds < 1:
		return "ERR " + option + " should be greater than 0"
	}
	o.filter.set(option, least(time.Duration(min(seconds, math.MaxInt64/int64(time.Second)))*time.Second))
	return ""
}

// askNode has a node judge the users and databases, which only the nodes know. The type at the end
// is none: what a node says to that means that all before it is right, and a node does nothing.
func (o *clientOptions) askNode(r *request, then func(r *request)) {
	s := r.s
	if s.closed || len(o.judged) == 0 || !s.overNodes() {
		o.conclude(r, then)
		return
	}
	question := [][]byte{[]byte("CLIENT"), []byte("LIST")}
	if o.kill {
		question[1] = []byte("KILL")
	}
	question = append(append(question, o.judged...), []byte("TYPE"), []byte("berth"))
	s.askPrimaries(codec.AppendCommand(nil, question...), 1, func(answers [][]byte) {
		if len(answers) > 0 && !s.closed && judges(answers[0]) {
			r.done(answers[0])
			return
		}
		o.conclude(r, then)
	})
}

// judges reports whether a node's reply says that there is no such user or database.
func judges(reply []byte) bool {
	for _, prefix := range []string{"-ERR No such user ", "-ERR DB ", "-ERR NOT-DB "} {
		if bytes.HasPrefix(reply, []byte(prefix)) {
			return true
		}
	}
	return false
}

func (o *clientOptions) conclude(r *request, then func(r *request)) {
	switch {
	case r.s.closed:
		r.done(nil)
	case o.refusal != "":
		r.done(codec.AppendError(nil, o.refusal))
	default:
		then(r)
	}
}
