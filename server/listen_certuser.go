package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"log/slog"

	"github.com/berth-proxy/berth/server/eventlog"
)

// A client's certificate may name the user of the nodes that the client is (tls-auth-clients-user).
// berth has the user's password from a file, and logs in with it in the client's place: a node judges
// that AUTH as any other. Whoever the node does not let in is a client that has not authenticated.
//
//	handshake ─▶ the certificate's common name ─▶ the file ─▶ AUTH at a node ··· the client's first request waits
//
// RESET and AUTH make of the client what they make of any: the certificate counts at the beginning only.

// certLogin reads the certificate. It reads a file.
func (srv *server) certLogin(g *greeting) *certLogin {
	cfg := srv.config()
	if g.secure == nil || !cfg.TLSAuthClientsUser {
		return nil
	}
	name := verifiedName(g.secure.ConnectionState())
	if name == "" {
		return nil
	}
	password, known, err := cfg.CertUser(name)
	switch {
	case err != nil:
		slog.Warn("no user by certificate", "why", eventlog.Cause("tls-auth-clients-user-file cannot be read"), "error", err)
	case !known:
		slog.Info("no user by certificate", "addr", g.remote(), "user", shown(name),
			"why", eventlog.Cause("the user is not in tls-auth-clients-user-file"))
	default:
		return &certLogin{name, password}
	}
	return nil
}

// commonName is the type of the attribute.
var commonName = asn1.ObjectIdentifier{2, 5, 4, 3}

// verifiedName is the common name in a client's certificate; "" if the certificate was not verified, or
// has not exactly one.
func verifiedName(state tls.ConnectionState) string {
	if len(state.VerifiedChains) == 0 || len(state.VerifiedChains[0]) == 0 {
		return ""
	}
	return onlyName(state.VerifiedChains[0][0])
}

func onlyName(cert *x509.Certificate) (name string) {
	for _, attribute := range cert.Subject.Names {
		if !attribute.Type.Equal(commonName) {
			continue
		}
		text, is := attribute.Value.(string)
		if !is || name != "" {
			return ""
		}
		name = text
	}
	return name
}

// logIn authenticates a client that has sent nothing, and tells it nothing.
func (s *session) logIn(as *certLogin) {
	s.muteThis = true
	s.authenticate(s.loop.srv.table().Find("auth"), as.user, as.password.Reveal(), func(reply []byte) []byte { return reply })
	s.muteThis = false
}
