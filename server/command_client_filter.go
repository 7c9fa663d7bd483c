package main

import (
	"net"
	"slices"
	"strings"
	"time"
)

// clientFilter says which clients a command speaks of: those for which every condition holds. The
// zero value admits all. A filter is not changed once it is made, so that all loops may look.
type clientFilter struct {
	conditions map[string]condition // by option; of an option that is given twice the last one counts
	except     *session             // never admitted
}

// condition reports whether it holds for a client. It runs on the loop of the client.
type condition func(s *session) bool

// admits reports whether the command speaks of s. It runs on the loop of s.
func (f *clientFilter) admits(s *session) bool {
	if s == f.except {
		return false
	}
	for _, holds := range f.conditions {
		if !holds(s) {
			return false
		}
	}
	return true
}

// set puts the condition of an option in place of an earlier one.
func (f *clientFilter) set(option string, holds condition) {
	if f.conditions == nil {
		f.conditions = map[string]condition{}
	}
	f.conditions[option] = holds
}

// clientKind is the type of a client.
type clientKind uint8

const (
	anyKind clientKind = iota
	normalKind
	pubsubKind
	replicaKind
	primaryKind // never a client of berth
)

var clientKinds = map[string]clientKind{
	"normal": normalKind, "pubsub": pubsubKind, "master": primaryKind, "primary": primaryKind, "replica": replicaKind, "slave": replicaKind,
}

// kind is the client's type. One in MONITOR is a normal one.
func (s *session) kind() clientKind {
	switch {
	case s.tunnel.streams():
		return replicaKind
	case s.subscribed():
		return pubsubKind
	}
	return normalKind
}

func isOfKind(kind clientKind) condition { return func(s *session) bool { return s.kind() == kind } }

func isUser(name string) condition { return func(s *session) bool { return s.user() == name } }

func isInDB(db int64) condition {
	return func(s *session) bool { return int64(s.pipes.Identity().DB) == db }
}

// isOneOf holds for the clients of sorted numbers.
func isOneOf(ids []int64) condition {
	return func(s *session) bool {
		_, found := slices.BinarySearch(ids, s.id)
		return found
	}
}

func comesFrom(addr string) condition {
	return func(s *session) bool {
		remote, _ := s.addresses()
		return remote == addr
	}
}

func comesTo(addr string) condition {
	return func(s *session) bool {
		_, local := s.addresses()
		return local == addr
	}
}

func comesFromHost(ip string) condition {
	return func(s *session) bool {
		remote, _ := s.addresses()
		host, _, err := net.SplitHostPort(remote)
		return err == nil && host == ip
	}
}

// isLabelled holds for the clients that have set one of their names to a text.
func isLabelled(text string, of func(l *label) string) condition {
	return func(s *session) bool { return s.label != nil && text != "" && of(s.label) == text }
}

func isOfAge(least time.Duration) condition {
	return func(s *session) bool { return time.Duration(s.loop.clock-s.born) >= least }
}

func isIdle(least time.Duration) condition {
	return func(s *session) bool { return time.Duration(s.loop.clock-s.lastHeard) >= least }
}

// hasLetters holds for the clients that have every one of some letters.
func hasLetters(letters string, of func(s *session) string) condition {
	return func(s *session) bool { return !hasOther(letters, of(s)) }
}

// hasOther reports whether a text has letters that are not among those known.
func hasOther(text, known string) bool {
	return strings.ContainsFunc(text, func(letter rune) bool { return !strings.ContainsRune(known, letter) })
}

func not(holds condition) condition { return func(s *session) bool { return !holds(s) } }
