package main

import (
	"net"

	"github.com/panjf2000/gnet/v2"

	"github.com/berth-proxy/berth/backend/secure"
	"github.com/berth-proxy/berth/server/config"
)

// arrival is the context of a socket of which more is known than its owner, until it is opened.
type arrival struct {
	owner    any
	stream   *secure.Stream // nil: it does not speak TLS
	from, to net.Addr       // nil: the socket's own
	said     []byte         // what the client has said already
	login    *certLogin     // nil: its certificate does not log it in
}

// certLogin is as whom a client's certificate has it logged in; a nil one: as nobody.
type certLogin struct {
	user     string
	password config.Secret
}

// over is the connection as its owner is to see it.
func (a *arrival) over(c gnet.Conn, l *loop) gnet.Conn {
	if a.from != nil {
		c = &proxied{c, a.from, a.to}
	}
	if a.stream != nil {
		c = secure.OnLoop(c, a.stream, &l.secured)
	}
	return c
}

// proxied is a client's connection by way of a load balancer, which has said between whom it is.
type proxied struct {
	gnet.Conn
	from, to net.Addr
}

func (p *proxied) Under() gnet.Conn     { return p.Conn }
func (p *proxied) RemoteAddr() net.Addr { return p.from }
func (p *proxied) LocalAddr() net.Addr  { return p.to }
