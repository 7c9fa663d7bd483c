package redistest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// Authority issues certificates for tests, for servers and for clients.
type Authority struct {
	Path string // its own certificate
	dir  string
	key  crypto.Signer
	cert *x509.Certificate
}

// Pair is a certificate and its key.
type Pair struct {
	CertPath, KeyPath string // PEM files
	tls.Certificate
}

// NewAuthority makes one that writes to files of the test.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{dir: t.TempDir(), key: newKey(t)}
	template := template("authority of a test")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der := sign(t, template, template, a.key.Public(), a.key)
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	a.cert, a.Path = cert, filepath.Join(a.dir, "ca.crt")
	writePEM(t, a.Path, "CERTIFICATE", der)
	return a
}

// Issue makes a certificate for host names and IP addresses, with a key of ECDSA.
func (a *Authority) Issue(t testing.TB, names ...string) *Pair {
	t.Helper()
	return a.IssueFor(t, newKey(t), names...)
}

// IssueRSA is Issue with a key of RSA.
func (a *Authority) IssueRSA(t testing.TB, names ...string) *Pair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return a.IssueFor(t, key, names...)
}

// IssueFor is Issue with a key that is there.
func (a *Authority) IssueFor(t testing.TB, key crypto.Signer, names ...string) *Pair {
	t.Helper()
	template := template(names[0])
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	base := filepath.Join(a.dir, template.SerialNumber.String())
	p := &Pair{CertPath: base + ".crt", KeyPath: base + ".key"}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	writePEM(t, p.CertPath, "CERTIFICATE", sign(t, template, a.cert, key.Public(), a.key))
	writePEM(t, p.KeyPath, "PRIVATE KEY", private)
	if p.Certificate, err = tls.LoadX509KeyPair(p.CertPath, p.KeyPath); err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return p
}

// Pool has the authority's certificate.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Over returns a client of a connection that is open: one that speaks TLS. t.Cleanup closes it.
func Over(t testing.TB, nc net.Conn) *Conn {
	c := newConn(t, nc)
	t.Cleanup(c.Close)
	return c
}

var serials atomic.Int64

func template(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serials.Add(1)), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return key
}

func sign(t testing.TB, cert, by *x509.Certificate, public crypto.PublicKey, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, cert, by, public, key)
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return der
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatalf("redistest: %v", err)
	}
}
