package main

import (
	"log/slog"
	"net"

	"github.com/berth-proxy/berth/server/eventlog"
	"github.com/berth-proxy/berth/server/telemetry"
)

// A client is astray that speaks TLS where it is not spoken, or does not where it is.

// errNotTLS is the answer to a client that speaks TLS where it is not spoken.
const errNotTLS = "ERR berth: TLS is not spoken at this address"

// isTLS reports whether bytes begin as a TLS handshake does. No command of Redis does.
func isTLS(b []byte) bool { return len(b) >= 3 && b[0] == 0x16 && b[1] == 3 && b[2] <= 4 }

// pointTo says in the log that a client came to the wrong door, and which one is right: for TLS, or for
// clients that do not speak it.
func (srv *server) pointTo(speaksTLS bool, came *doorway, addr net.Addr) {
	why, right := eventlog.Cause("it does not speak TLS, which is spoken at this address"), "none: set port"
	if speaksTLS {
		why, right = "it speaks TLS, which is not spoken at this address", "none: set tls-port"
	}
	for _, d := range *srv.doors.Load() {
		if d.way.terms.Load().TLS == speaksTLS {
			right = d.way.name
			break
		}
	}
	slog.Warn("client at the wrong address", "addr", addr, "why", why, "door", came.name, "use", right)
}

// turnAwayTLS ends a client that speaks TLS where it is not spoken. It would wait for ever: what it has
// sent need not have a line end.
func (s *session) turnAwayTLS() {
	s.loop.srv.pointTo(true, s.door, s.remote())
	s.reason = telemetry.TLSError // the log has its line
	s.answer(nil, []byte("-"+errNotTLS+"\r\n"))
	s.end(telemetry.TLSError)
}
