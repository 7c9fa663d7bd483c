package main

import (
	"strings"
	"time"
)

// clientFilter says which clients a command speaks of. Its zero value admits all; it is not changed
// once it is made, so that all loops may look.
type clientFilter struct {
	id            int64 // 0: any
	kind          clientKind
	remote, local string // addresses as CLIENT LIST shows them; "": any
	user          string // "": any
	minAge        time.Duration
	except        *session // never admitted
}

// clientKind is the type of a client.
type clientKind uint8

const (
	anyKind clientKind = iota
	normalKind
	pubsubKind
	nodeKind // a primary or a replica: never a client of berth
)

var clientKinds = map[string]clientKind{
	"normal": normalKind, "pubsub": pubsubKind, "master": nodeKind, "replica": nodeKind, "slave": nodeKind,
}

// setKind reads a type; it returns what to say when there is none of that name.
func (f *clientFilter) setKind(word []byte) (refusal string) {
	f.kind = clientKinds[strings.ToLower(string(word))]
	if f.kind == anyKind {
		return "ERR Unknown client type '" + string(word) + "'"
	}
	return ""
}

// admits reports whether the command speaks of s. It runs on the loop of s.
func (f *clientFilter) admits(s *session) bool {
	if s == f.except ||
		f.id != 0 && f.id != s.id ||
		f.kind != anyKind && f.kind != s.kind() ||
		f.user != "" && f.user != s.user() ||
		f.minAge > 0 && time.Duration(s.loop.clock-s.born) < f.minAge {
		return false
	}
	if f.remote == "" && f.local == "" {
		return true
	}
	remote, local := s.addresses()
	return (f.remote == "" || f.remote == remote) && (f.local == "" || f.local == local)
}

// kind is the client's type. One in MONITOR is a normal one.
func (s *session) kind() clientKind {
	if s.subscribed() {
		return pubsubKind
	}
	return normalKind
}
