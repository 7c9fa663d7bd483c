package clients

import (
	"crypto/tls"
	"os"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// transport is how clients connect to berth. berth offers no other one.
type transport struct {
	name    string
	version string // of TLS, a value of tls-protocols; "": no TLS
	mutual  bool   // berth asks each client for a certificate
}

var (
	plain     = transport{name: "plain"}
	tls12     = transport{name: "TLS 1.2", version: "TLSv1.2"}
	mutualTLS = transport{name: "mutual TLS 1.3", version: "TLSv1.3", mutual: true}
)

// onEachTransport runs a test without TLS, or with BERTH_TEST_TLS=yes over each kind of TLS, in
// parallel with all other tests.
func onEachTransport(t *testing.T, test func(*testing.T, transport)) {
	t.Parallel()
	transports := []transport{plain}
	if os.Getenv("BERTH_TEST_TLS") == "yes" {
		transports = []transport{tls12, mutualTLS}
	}
	for _, on := range transports {
		t.Run(on.name, func(t *testing.T) {
			t.Parallel()
			test(t, on)
		})
	}
}

// Without BERTH_TEST_TLS this is the only test over TLS, so it has a part of the course for each
// library.
func TestEachLibrarySpeaksTLS(t *testing.T) {
	t.Parallel()
	backend := "redis://" + redistest.Start(t).Addr()
	for name, run := range map[string]func(*testing.T, *berth){
		"redis-cli":       func(t *testing.T, b *berth) { b.messages(t) },
		"redis-benchmark": func(t *testing.T, b *berth) { b.benchmark(t, "-n 2000 -P 16 --threads 2 -t get,set,mset") },
		"go-redis":        func(t *testing.T, b *berth) { goRedisSingle(t, b, 3) },
		"rueidis":         func(t *testing.T, b *berth) { rueidisCourse(t, b, false) },
		"redis-py":        python("pools.py"),
		"ioredis":         node("ioredis.js"),
		"node-redis":      node("node-redis.js"),
		"BullMQ":          node("bullmq.js"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// Each has a berth of its own, because go-redis and rueidis kill all clients.
			run(t, startBerth(t, mutualTLS, "node", backend))
		})
	}
}

// secure makes the certificates of b and of its clients. It returns the options that open b's port.
func (on transport) secure(t *testing.T, b *berth) []string {
	t.Helper()
	if on.version == "" {
		return []string{"--port", b.port}
	}
	ca := redistest.NewAuthority(t)
	pair := ca.Issue(t, b.host)
	b.ca, b.tls = ca.Path, &tls.Config{RootCAs: ca.Pool()}
	auth := "no"
	if on.mutual {
		own := ca.Issue(t, "a client")
		b.cert, b.key, b.tls.Certificates = own.CertPath, own.KeyPath, []tls.Certificate{own.Certificate}
		auth = "yes"
	}
	return []string{"--port", "0", "--tls-port", b.port, "--tls-protocols", on.version, "--tls-auth-clients", auth, "--tls-handshake-timeout", "60",
		"--tls-cert-file", pair.CertPath, "--tls-key-file", pair.KeyPath, "--tls-ca-cert-file", ca.Path}
}

// reach returns the arguments with which redis-cli and redis-benchmark connect.
func (b *berth) reach() []string {
	args := []string{"-h", b.host, "-p", b.port}
	if b.ca != "" {
		args = append(args, "--tls", "--cacert", b.ca)
	}
	if b.cert != "" {
		args = append(args, "--cert", b.cert, "--key", b.key)
	}
	return args
}
