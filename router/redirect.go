package router

import (
	"bytes"
	"net"
	"strconv"
)

// Redirect is what a MOVED or ASK error says.
type Redirect struct {
	Ask  bool   // ASK: this one request only, after ASKING. Otherwise MOVED: the slot has a new owner
	Slot uint16 // the slot it is about
	Addr string // "host:port" of the node to go to
}

// maxRedirect is longer than any redirect that a node makes: the longest host name has 253 bytes.
const maxRedirect = 512

// ParseRedirect reads "-MOVED 3999 10.0.0.2:6381\r\n" and "-ASK …"; false for any other reply.
// fromHost is the host of the node that answered: an empty host in the error means the same one.
//
// The words may be a client's, whose script has chosen them: see backend.Follow.
func ParseRedirect(reply []byte, fromHost string) (Redirect, bool) {
	var r Redirect
	if len(reply) > maxRedirect {
		return Redirect{}, false
	}
	rest, ok := bytes.CutPrefix(reply, []byte("-MOVED "))
	if !ok {
		if rest, ok = bytes.CutPrefix(reply, []byte("-ASK ")); !ok {
			return Redirect{}, false
		}
		r.Ask = true
	}
	number, addr, ok := bytes.Cut(bytes.TrimSuffix(rest, []byte("\r\n")), []byte(" "))
	slot, err := strconv.ParseUint(string(number), 10, 16)
	colon := bytes.LastIndexByte(addr, ':') // an IPv6 address comes without brackets
	if !ok || err != nil || slot >= Slots || colon < 0 {
		return Redirect{}, false
	}
	host, port := string(addr[:colon]), string(addr[colon+1:])
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Redirect{}, false
	}
	if host == "" || host == "?" {
		host = fromHost
	}
	r.Slot, r.Addr = uint16(slot), net.JoinHostPort(host, port)
	return r, true
}
