package main

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/berth-proxy/berth/codec"
	"github.com/berth-proxy/berth/router"
)

// infoSection is one section of INFO.
type infoSection struct {
	title string // its name in lower case asks for it
	rare  bool   // only when asked for, by name or by all
	write func(r *infoReport)
}

// infoSections are all sections, in the order of Redis, berth's own behind them.
var infoSections = []infoSection{
	{title: "Server", write: (*infoReport).server},
	{title: "Clients", write: (*infoReport).clients},
	{title: "Memory", write: (*infoReport).memory},
	{title: "Persistence", write: (*infoReport).persistence},
	{title: "Stats", write: (*infoReport).stats},
	{title: "Replication", write: (*infoReport).replication},
	{title: "CPU", write: (*infoReport).cpu},
	{title: "Modules", write: func(*infoReport) {}},
	{title: "Commandstats", rare: true, write: (*infoReport).commandStats},
	{title: "Errorstats", write: (*infoReport).errorStats},
	{title: "Cluster", write: (*infoReport).cluster},
	{title: "Keyspace", write: (*infoReport).keyspace},
	{title: "Proxy", write: (*infoReport).proxy},
	{title: "Pools", write: (*infoReport).pools},
}

// infoWanted is the titles of the sections a client asked for.
type infoWanted map[string]bool

// readInfo reads the words behind INFO. A name of no section asks for nothing.
func readInfo(words [][]byte) infoWanted {
	wanted := infoWanted{}
	if len(words) == 0 {
		words = [][]byte{[]byte("default")}
	}
	for _, word := range words {
		name := string(bytes.ToLower(word))
		for _, section := range infoSections {
			switch {
			case name == "all", name == "everything", name == "default" && !section.rare, name == strings.ToLower(section.title):
				wanted[section.title] = true
			}
		}
	}
	return wanted
}

// info asks the nodes for what only they know, if that is wanted, and then every loop, which a loop cannot wait for.
//
//	loop: ask the nodes ──▶ goroutine: ask the loops, write ──▶ loop: reply
func info(s *session, cmd *router.Command, _ []byte, args [][]byte) bool {
	if s.waiting > 0 {
		return s.hold(pauseDraining)
	}
	report := &infoReport{srv: s.loop.srv, wanted: readInfo(args[1:]), resp: s.resp()}
	r := s.newRequest(cmd)
	s.pauseFor(pauseAnswering)
	report.nodes.ask(s, report.wanted, func() {
		switch {
		case s.closed:
			r.done(nil)
		case report.nodes.refusal != nil:
			r.done(report.nodes.refusal)
		default:
			r.aside(report.reply)
		}
	})
	return true
}

// infoReport is one INFO reply being written, on a goroutine of its own.
type infoReport struct {
	srv    *server
	wanted infoWanted
	resp   int
	nodes  nodesWord

	text strings.Builder
	sum  *loopSnapshot // of all loops
	took int           // loops that are in sum
}

// reply writes the sections that are wanted.
func (r *infoReport) reply() []byte {
	r.sumLoops()
	for _, section := range infoSections {
		if !r.wanted[section.title] {
			continue
		}
		if r.text.Len() > 0 {
			r.text.WriteString("\r\n")
		}
		r.text.WriteString("# " + section.title + "\r\n")
		section.write(r)
	}
	return codec.AppendVerbatim(nil, "txt", r.text.String(), r.resp)
}

// sumLoops adds up what the loops know.
func (r *infoReport) sumLoops() {
	r.sum = newLoopSnapshot()
	for _, snap := range r.srv.snapshots() {
		r.took++
		r.sum.add(snap)
	}
}

// line writes "name:value".
func (r *infoReport) line(name string, value any) {
	fmt.Fprintf(&r.text, "%s:%v\r\n", name, value)
}
