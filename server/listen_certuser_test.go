package main

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"path/filepath"
	"testing"

	"github.com/berth-proxy/berth/backend/redistest"
)

// certBerth is a berth over a node with users, whom certificates name.
func certBerth(t *testing.T, node *redistest.Server, users string, args ...string) (b *tlsBerth, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "users")
	writeUsers(t, file, users)
	base := []string{"--tls-auth-clients", "optional", "--tls-auth-clients-user", "CN", "--tls-auth-clients-user-file", file}
	return startTLS(t, node.Addr(), append(base, args...)...), file
}

func writeUsers(t *testing.T, file, users string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(users), 0o600); err != nil {
		t.Fatal(err)
	}
}

// as is a client that shows a certificate of an authority for a name.
func (b *tlsBerth) as(t *testing.T, ca *redistest.Authority, name string) *redistest.Conn {
	t.Helper()
	return b.dialTLS(t, b.configAs(t, ca, name))
}

func (b *tlsBerth) configAs(t *testing.T, ca *redistest.Authority, name string) *tls.Config {
	t.Helper()
	config, pair := b.config(), ca.Issue(t, name).Certificate
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	return config
}

func TestCertificatesNameUsers(t *testing.T) {
	for _, version := range tlsVersions {
		node := redistest.Start(t)
		setUsers(t, node, "ann on >secret ~a* &* +@all", "bob on >other ~b* &* +@read +acl|whoami", "off off >secret ~* &* +@all",
			"free on nopass ~* &* +@all")
		b, _ := certBerth(t, node, "ann secret\nbob other\noff secret\nwrong guess\nbad guess\n")
		setUsers(t, node, "bad on >secret ~* &* +@all")
		for name, who := range map[string]string{
			"ann": "ann", "bob": "bob", // as the node knows them
			"off": "default", "wrong": "default", "bad": "default", // refused by the node: off, unknown, another password
			"free": "default", // known to the node alone
		} {
			config := b.configAs(t, b.ca, name)
			config.MaxVersion = version
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			for range 2 { // the second one resumes the first one's session
				c := b.dialTLS(t, config)
				script(t, c, "ACL WHOAMI → "+who) // the one reply: the login brings none
				c.Close()
			}
		}
		script(t, b.as(t, b.ca, "ann"), "SET a 1 → OK", "SET b 1 → "+b.noKey())
		script(t, b.as(t, b.ca, "bob"), "GET b → <nil>", "SET b 1 → "+b.noCommand("bob", "set"))
		script(t, b.client(t), "ACL WHOAMI → default") // without certificate
	}
}

// Where the node wants a password, whoever is not let in by certificate is a stranger.
func TestCertificatesThatNameNobodyLetNobodyIn(t *testing.T) {
	node := redistest.Start(t, "--requirepass", "pw")
	c := dial(t, node.Addr())
	c.Do("AUTH", "pw")
	script(t, c, "ACL SETUSER ann on >secret ~* &* +@all → OK", "ACL SETUSER gone on >secret ~* &* +@all → OK", "ACL SETUSER gone off → OK")
	b, file := certBerth(t, node, "ann secret\ngone secret\n")
	const stranger = "GET k → NOAUTH Authentication required."
	script(t, b.as(t, b.ca, "ann"), "GET k → <nil>", "ACL WHOAMI → ann")
	script(t, b.as(t, b.ca, "gone"), stranger, "AUTH ann secret → OK", "GET k → <nil>")
	script(t, b.as(t, b.ca, "nobody"), stranger)
	script(t, b.client(t), stranger)
	if conn, err := b.enter(b.configAs(t, redistest.NewAuthority(t), "ann")); err == nil { // in TLS 1.3 the client is done first
		if got, err := redistest.Over(t, conn).TryDo("GET", "k"); err == nil {
			t.Errorf("a certificate of another authority: %v", got)
		}
	}

	script(t, b.as(t, b.ca, "ann"), "AUTH default pw → OK", "ACL WHOAMI → default", "AUTH ann guess → "+errWrongPass, "ACL WHOAMI → default")
	script(t, b.as(t, b.ca, "ann"), "RESET → RESET", stranger)

	writeUsers(t, file, "ann guess\n")
	script(t, b.as(t, b.ca, "ann"), stranger)
	writeUsers(t, file, "ann\n") // which is no such file
	script(t, b.as(t, b.ca, "ann"), stranger)
	writeUsers(t, file, "ann secret\n")
	script(t, b.as(t, b.ca, "ann"), "GET k → <nil>")
	b.set("tls-auth-clients-user", "off")
	script(t, b.as(t, b.ca, "ann"), stranger)
	b.set("tls-auth-clients-user", "CN", "tls-auth-clients", "no") // berth asks for none
	script(t, b.as(t, b.ca, "ann"), stranger)
	if err := b.srv.settings.Set("tls-auth-clients-user-file", "/no/such"); err == nil {
		t.Error("a file that is not there is taken")
	}
}

// A session that was begun with a certificate is not taken up for its user when the authority is
// believed no more.
func TestCertificatesOfAnAuthorityThatIsBelievedNoMoreNameNobody(t *testing.T) {
	for name, version := range tlsVersions {
		node := redistest.Start(t)
		setUsers(t, node, "ann on >secret ~* &* +@all")
		b, _ := certBerth(t, node, "ann secret\n")
		config := b.configAs(t, b.ca, "ann")
		config.MaxVersion, config.ClientSessionCache = version, tls.NewLRUClientSessionCache(1)
		script(t, b.dialTLS(t, config), "ACL WHOAMI → ann")
		b.set("tls-ca-cert-file", redistest.NewAuthority(t).Path)
		if conn, err := b.enter(config); err == nil {
			if got, err := redistest.Over(t, conn).TryDo("ACL", "WHOAMI"); err == nil && got != "default" {
				t.Errorf("%s: %v", name, got)
			}
		}
	}
}

// A name is nobody's unless it is the only one.
func TestCertificateHasOneName(t *testing.T) {
	name := func(values ...any) (all []pkix.AttributeTypeAndValue) {
		for _, v := range values {
			all = append(all, pkix.AttributeTypeAndValue{Type: commonName, Value: v})
		}
		return all
	}
	for want, names := range map[string][]pkix.AttributeTypeAndValue{
		"ann": append(name("ann"), pkix.AttributeTypeAndValue{Type: []int{2, 5, 4, 10}, Value: "org"}), "": nil,
	} {
		if got := onlyName(&x509.Certificate{Subject: pkix.Name{Names: names}}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	for _, names := range [][]pkix.AttributeTypeAndValue{name("ann", "bob"), name("ann", "ann"), name(7), name("ann", 7)} {
		if got := onlyName(&x509.Certificate{Subject: pkix.Name{Names: names}}); got != "" {
			t.Errorf("%v: %q", names, got)
		}
	}
	if got := verifiedName(tls.ConnectionState{PeerCertificates: []*x509.Certificate{{Subject: pkix.Name{Names: name("ann")}}}}); got != "" {
		t.Errorf("%q, whose certificate was not verified", got)
	}
}
