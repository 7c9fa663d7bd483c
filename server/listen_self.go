package main

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"
)

// meetsItself returns an error if the backend is one of berth's own addresses. It asks when no node has
// answered before berth has listened: a later berth in a circle finds itself in the chain of its node.
func (srv *server) meetsItself() error {
	target := srv.nodes.Target()
	if srv.nodes.Ready() || target.Master != "" {
		return nil
	}
	for _, addr := range target.Addrs {
		if srv.answersAt(addr) {
			return fmt.Errorf("backend %s: %s is an address of this berth itself", target, addr)
		}
	}
	return nil
}

// answersAt reports whether a connection to an address is one of berth's clients.
func (srv *server) answersAt(addr string) bool {
	_, port, _ := net.SplitHostPort(addr)
	doors := *srv.doors.Load()
	if slices.ContainsFunc(doors, func(d door) bool { return d.path() != "" && d.path() == addr }) {
		return true
	}
	if !slices.ContainsFunc(doors, func(d door) bool { return d.path() == "" && strconv.Itoa(d.port()) == port }) {
		return false // it need not wait for a host that is silent
	}
	patience := srv.config().BackendConnectTimeout
	conn, err := srv.nodes.Dialer().Connect(context.Background(), addr, patience)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience)) // a closed socket fails below
	if _, err := conn.Write(pingCommand); err != nil {
		return false
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil {
		return false
	}
	ours, _ := askLoops(srv, func(l *loop) bool {
		for s := l.first; s != nil; s = s.next {
			if s.remote().String() == conn.LocalAddr().String() {
				return true
			}
		}
		return false
	})
	return slices.Contains(ours, true)
}
