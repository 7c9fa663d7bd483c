package main

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// With BERTH_TEST_TLS=yes the clients of all tests speak TLS to berth: what a test dials is a front
// that encrypts.

// tlsFront has a berth that is to be started with args speak TLS too, and returns what is to be added
// to them and where its front goes. It returns nothing without BERTH_TEST_TLS, or if the test has its
// own mind about TLS.
func (b *berthServer) tlsFront(t testing.TB, args []string) (more []string, open func() string) {
	if os.Getenv("BERTH_TEST_TLS") != "yes" || hasFlag(args, "--tls-port") {
		return nil, nil
	}
	ca, port := redistest.NewAuthority(t), freePort(t)
	pair := ca.Issue(t, "berth.example", "127.0.0.1")
	more = []string{"--tls-port", port, "--tls-cert-file", pair.CertPath, "--tls-key-file", pair.KeyPath, "--tls-auth-clients", "no"}
	return more, func() string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		// In TLS 1.2 berth has the last word of a handshake: nothing of the client's comes with its end,
		// which feed does not see.
		config := &tls.Config{RootCAs: ca.Pool(), ServerName: "berth.example", MaxVersion: tls.VersionTLS12}
		go func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				go b.encrypt(conn.(*net.TCPConn), "127.0.0.1:"+port, config)
			}
		}()
		return ln.Addr().String()
	}
}

// encrypt carries a client's connection to berth, until both sides have ended.
func (b *berthServer) encrypt(client *net.TCPConn, berth string, config *tls.Config) {
	defer client.Close()
	conn, err := tls.Dial("tcp", berth, config)
	if err != nil {
		return
	}
	defer conn.Close()
	b.front.Store(conn.LocalAddr().String(), client.RemoteAddr().String())
	var both sync.WaitGroup
	both.Go(func() {
		if _, err := io.Copy(conn, client); err != nil {
			_ = conn.NetConn().Close() // the client was reset
		}
		_ = conn.CloseWrite()
	})
	both.Go(func() {
		_, _ = io.Copy(client, conn)
		_ = client.CloseWrite()
	})
	both.Wait()
}
