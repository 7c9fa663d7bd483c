package main

import (
	"fmt"
	"strings"

	"github.com/berth-proxy/berth/router"
)

// watch keeps a request that took long, of which sent are the bytes. A node has just answered it: that of
// its pipe if it is not named.
func (r *request) watch(node string, sent []byte) {
	s := r.s
	took := s.loop.clock - r.start
	if r.held+took < s.loop.slowFrom || s.closed || r.cmd.Way == router.Blocking {
		return
	}
	if node == "" && r.pipe != nil {
		node = r.pipe.Addr()
	}
	from, _ := s.addresses()
	e := slowEntry{at: s.loop.clock, held: r.held, node: took, from: from, to: node, owner: s.user(), words: s.slowWords(r.cmd, sent)}
	if s.label != nil {
		e.client = s.label.name
	}
	s.loop.srv.slowlog.add(e)
}

// slowWords are the words of a request as Redis keeps them in its SLOWLOG.
func (s *session) slowWords(cmd *router.Command, sent []byte) (words []string) {
	p := s.loop.parser()
	defer s.loop.dropParser(p)
	n, err := p.ParseAll(sent, s.loop.srv.limits(true))
	if cmd.Is(router.Exec) || n == 0 || err != nil {
		return []string{cmd.Name}
	}
	args := p.Args()
	for i, word := range args[:min(len(args), slowWords)] {
		switch {
		case i == slowWords-1 && len(args) > slowWords:
			words = append(words, fmt.Sprintf("... (%d more arguments)", len(args)-slowWords+1))
		case isPassword(cmd, args, i):
			words = append(words, "(redacted)")
		case len(word) > slowWordSize:
			words = append(words, fmt.Sprintf("%s... (%d more bytes)", word[:slowWordSize], len(word)-slowWordSize))
		default:
			words = append(words, string(word))
		}
	}
	return words
}

// isPassword reports whether a word of a command may be a password that brief would take for a key:
// MIGRATE … AUTH password, MIGRATE … AUTH2 user password.
func isPassword(cmd *router.Command, args [][]byte, i int) bool {
	after := func(name string, n int) bool { return i >= n && strings.EqualFold(string(args[i-n]), name) }
	return cmd.BlocksNode() && (after("auth", 1) || after("auth2", 1) || after("auth2", 2))
}
