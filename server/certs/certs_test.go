package certs

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/youmark/pkcs8"

	"github.com/berth-proxy/berth/backend/redistest"
)

// plain is what a certificate needs to be served, and nothing else.
func plain(p *redistest.Pair) *Files {
	return &Files{
		Certs: []string{p.CertPath}, Keys: []string{p.KeyPath}, Clients: NotAsked,
		Versions: Versions{tls.VersionTLS12, tls.VersionTLS13}, Tickets: true,
	}
}

// write makes a file of the test.
func write(t testing.TB, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	rewrite(t, path, text)
	return path
}

func rewrite(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// served is what a client sees of a handshake.
type served struct {
	by      string // the name in the server's certificate
	serial  string
	resumed bool
	err     error // of the client, else of the server
}

// shake has a client and a server speak a word each, so that the client also gets its tickets.
func shake(t testing.TB, server, client *tls.Config) (got served) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	said := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			said <- err
			return
		}
		s := tls.Server(conn, server)
		defer s.Close()
		word := make([]byte, 1)
		if _, err = io.ReadFull(s, word); err == nil {
			_, err = s.Write(word)
		}
		said <- err
	}()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(redistest.Patience(10 * time.Second)))
	c := tls.Client(conn, client)
	word := []byte{'x'}
	if _, got.err = c.Write(word); got.err == nil {
		_, got.err = io.ReadFull(c, word)
	}
	conn.Close()
	if err := <-said; got.err == nil {
		got.err = err
	}
	if state := c.ConnectionState(); len(state.PeerCertificates) > 0 {
		cert := state.PeerCertificates[0]
		got.by, got.serial, got.resumed = cert.Subject.CommonName, cert.SerialNumber.String(), state.DidResume
	}
	return got
}

// truster is a client that trusts an authority.
func truster(a *redistest.Authority, name string) *tls.Config {
	return &tls.Config{RootCAs: a.Pool(), ServerName: name}
}

func serial(p *redistest.Pair) string { return p.Leaf.SerialNumber.String() }

// mustRefuse loads files that are wrong and looks for words in the error.
func mustRefuse(t *testing.T, what string, f *Files, words ...string) {
	t.Helper()
	_, err := f.Load()
	if err == nil {
		t.Errorf("%s: taken", what)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%s: %q does not say %q", what, err, w)
		}
	}
}

func TestKeysOfEitherKindAreServed(t *testing.T) {
	a := redistest.NewAuthority(t)
	for name, p := range map[string]*redistest.Pair{"RSA": a.IssueRSA(t, "berth"), "ECDSA": a.Issue(t, "berth")} {
		config, err := plain(p).Load()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := shake(t, config, truster(a, "berth")); got.err != nil || got.serial != serial(p) {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

const password = "open sesame"

// encrypted are the forms of a key that only a password opens.
func encrypted(t *testing.T, p *redistest.Pair) map[string]string {
	t.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(p.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	old, err := x509.EncryptPEMBlock(rand.Reader, "PRIVATE KEY", private, []byte(password), x509.PEMCipherAES256) //lint:ignore SA1019 people have such keys
	if err != nil {
		t.Fatal(err)
	}
	der, err := pkcs8.MarshalPrivateKey(p.PrivateKey, []byte(password), nil)
	if err != nil {
		t.Fatal(err)
	}
	parameters := string(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8}}))
	return map[string]string{
		"old form":        string(pem.EncodeToMemory(old)),
		"PKCS #8":         string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})),
		"after a comment": "a key\n" + parameters + string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: der})),
	}
}

func TestEncryptedKeysOpenWithTheirPasswordOnly(t *testing.T) {
	a := redistest.NewAuthority(t)
	for kind, p := range map[string]*redistest.Pair{"RSA": a.IssueRSA(t, "berth"), "ECDSA": a.Issue(t, "berth")} {
		for form, text := range encrypted(t, p) {
			f := plain(p)
			f.Keys = []string{write(t, "encrypted.key", text)}
			f.Password = password
			config, err := f.Load()
			if err != nil {
				t.Errorf("%s, %s: %v", kind, form, err)
			} else if got := shake(t, config, truster(a, "berth")); got.err != nil {
				t.Errorf("%s, %s: %v", kind, form, got.err)
			}
			f.Password = "wrong"
			mustRefuse(t, kind+", "+form+", wrong password", f, f.Keys[0], "tls-key-file-pass")
			f.Password = ""
			mustRefuse(t, kind+", "+form+", no password", f, f.Keys[0], "set tls-key-file-pass")
		}
	}
}

func TestPasswordIsNoHindranceToAKeyThatNeedsNone(t *testing.T) {
	f := plain(redistest.NewAuthority(t).Issue(t, "berth"))
	f.Password = password
	if _, err := f.Load(); err != nil {
		t.Error(err)
	}
}

func TestFilesThatDoNotFitAreRefusedInWords(t *testing.T) {
	a := redistest.NewAuthority(t)
	p, other := a.Issue(t, "berth"), a.Issue(t, "other")
	missing := filepath.Join(t.TempDir(), "missing")
	junk := write(t, "junk", "this is no PEM\n")
	with := func(change func(f *Files)) *Files {
		f := plain(p)
		change(f)
		return f
	}
	mustRefuse(t, "no certificate", with(func(f *Files) { f.Certs, f.Keys = nil, nil }), "tls-cert-file")
	mustRefuse(t, "a key too few", with(func(f *Files) { f.Certs = append(f.Certs, other.CertPath) }), "tls-cert-file names 2 files and tls-key-file 1")
	mustRefuse(t, "a missing certificate", with(func(f *Files) { f.Certs = []string{missing} }), missing)
	mustRefuse(t, "a missing key", with(func(f *Files) { f.Keys = []string{missing} }), missing)
	mustRefuse(t, "another's key", with(func(f *Files) { f.Keys = []string{other.KeyPath} }), p.CertPath, other.KeyPath)
	mustRefuse(t, "a certificate that is none", with(func(f *Files) { f.Certs = []string{junk} }), junk)
	mustRefuse(t, "a key that is none", with(func(f *Files) { f.Keys = []string{junk} }), junk)
	for _, clients := range []ClientCert{Required, Optional} {
		with := func(file, dir string) *Files {
			return with(func(f *Files) { f.Clients, f.CAFile, f.CADir = clients, file, dir })
		}
		mustRefuse(t, "no authority", with("", ""), "tls-ca-cert-file", "tls-auth-clients")
		mustRefuse(t, "a missing authority", with(missing, ""), missing)
		mustRefuse(t, "an authority that is none", with(junk, ""), junk, "no certificate")
		mustRefuse(t, "a missing directory", with("", missing), missing)
		mustRefuse(t, "a directory without authorities", with("", filepath.Dir(junk)), "no authority")
	}
}

func TestAuthoritiesAreReadFromAFileAndFromADirectoryWithOtherFiles(t *testing.T) {
	a, b, stranger := redistest.NewAuthority(t), redistest.NewAuthority(t), redistest.NewAuthority(t)
	dir := t.TempDir()
	rewrite(t, filepath.Join(dir, "0a1b2c3d.0"), read(t, b.Path))
	rewrite(t, filepath.Join(dir, "README"), "authorities\n")
	rewrite(t, filepath.Join(dir, "binary"), "\x00\xff\x30\x82")
	if err := os.MkdirAll(filepath.Join(dir, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling.pem")); err != nil {
		t.Fatal(err)
	}
	f := plain(a.Issue(t, "berth"))
	f.Clients, f.CAFile, f.CADir = Required, a.Path, dir
	config, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []struct {
		name string
		by   *redistest.Authority // nil: shows no certificate
		ok   bool
	}{{"of the file", a, true}, {"of the directory", b, true}, {"a stranger", stranger, false}, {"one without", nil, false}} {
		client := truster(a, "berth")
		if who.by != nil {
			pair := who.by.Issue(t, "client").Certificate
			client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		}
		if got := shake(t, config, client); (got.err == nil) != who.ok {
			t.Errorf("%s: %v", who.name, got.err)
		}
	}
}

func ticketKey() string {
	b := make([]byte, ticketKeySize)
	_, _ = rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}

func TestTicketKeysAreOneALine(t *testing.T) {
	one, two := ticketKey(), ticketKey()
	for text, want := range map[string]int{
		one: 1, one + "\n": 1, one + "\n" + two + "\n": 2, "# new\n" + one + "\r\n\n  " + two + "\n": 2,
	} {
		keys, err := loadTicketKeys(write(t, "keys", text))
		if err != nil || len(keys) != want || base64.StdEncoding.EncodeToString(keys[0][:]) != one {
			t.Errorf("%q: %d keys, %v", text, len(keys), err)
		}
	}
	for _, text := range []string{"", "\n# nothing\n", one + one, one[:20], "no base64!", one + "\nshort", base64.StdEncoding.EncodeToString(make([]byte, 48))} {
		path := write(t, "keys", text)
		if keys, err := loadTicketKeys(path); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), one) {
			t.Errorf("%q: %d keys, %v", text, len(keys), err)
		}
	}
	f := plain(redistest.NewAuthority(t).Issue(t, "berth"))
	f.TicketKeys = filepath.Join(t.TempDir(), "missing")
	mustRefuse(t, "a missing file of ticket keys", f, f.TicketKeys)
	f.Tickets = false
	if _, err := f.Load(); err != nil {
		t.Errorf("without tickets: %v", err)
	}
}

func TestVersionsByTheirNames(t *testing.T) {
	const v2, v3 = tls.VersionTLS12, tls.VersionTLS13
	for names, want := range map[string]Versions{
		"": {v2, v3}, "TLSv1.2": {v2, v2}, "tlsv1.3": {v3, v3}, "TLSv1.2 TLSv1.3": {v2, v3}, "TLSv1.3 TLSv1.2": {v2, v3}, "TLSv1.3 TLSv1.3": {v3, v3},
	} {
		if got, err := ParseVersions(strings.Fields(names)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", names, got, err)
		}
	}
	for _, name := range []string{"TLSv1", "TLSv1.1", "SSLv3", "1.2", "TLS1.3"} {
		if got, err := ParseVersions([]string{"TLSv1.2", name}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %+v, %v", name, got, err)
		}
	}
}

func TestCiphersByTheirOpenSSLNames(t *testing.T) {
	const (
		rsaGCM   = tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
		ecdsa256 = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
		chacha   = tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
		cbc      = tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA
	)
	for list, want := range map[string][]uint16{
		"":                            nil,
		"ECDHE-RSA-AES128-GCM-SHA256": {rsaGCM},
		"ecdhe-rsa-aes128-gcm-sha256": {rsaGCM},
		"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-CHACHA20-POLY1305": {ecdsa256, chacha},
		"ECDHE-RSA-AES128-SHA": {cbc},
		"DEFAULT":              nil,
		"DEFAULT:!MEDIUM":      nil, // as in redis.conf
		"HIGH:!aNULL:!MD5":     nil,
		"ECDHE-RSA-AES128-GCM-SHA256:!aNULL:-RC4:@SECLEVEL=2": {rsaGCM},
	} {
		if got, err := ParseCiphers(list); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
	for list, word := range map[string]string{
		"RC4-SHA": "RC4-SHA", "TLS_AES_128_GCM_SHA256": "TLS_AES_128_GCM_SHA256", "DEFAULT:!ECDHE-RSA-AES128-GCM-SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
		"ECDHE-RSA-AES128-GCM-SHA256:nonsense": "nonsense", "DHE-RSA-AES256-GCM-SHA384": "DHE-RSA-AES256-GCM-SHA384",
	} {
		if got, err := ParseCiphers(list); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v, %v", list, got, err)
		}
	}
}

func TestCiphersAreThoseThatAreServed(t *testing.T) {
	a := redistest.NewAuthority(t)
	f := plain(a.IssueRSA(t, "berth"))
	f.Ciphers, _ = ParseCiphers("ECDHE-RSA-AES256-GCM-SHA384")
	config, err := f.Load()
	if err != nil {
		t.Fatal(err)
	}
	client := truster(a, "berth")
	client.MaxVersion = tls.VersionTLS12
	for suite, ok := range map[uint16]bool{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384: true, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256: false} {
		client.CipherSuites = []uint16{suite}
		if got := shake(t, config, client); (got.err == nil) != ok {
			t.Errorf("%s: %v", tls.CipherSuiteName(suite), got.err)
		}
	}
}

func TestCiphersuitesOfTLS13AreAllOrNone(t *testing.T) {
	const all = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
	for _, list := range []string{all, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384:tls_aes_128_gcm_sha256"} {
		if err := CheckCiphersuites(list); err != nil {
			t.Errorf("%q: %v", list, err)
		}
	}
	for _, list := range []string{"TLS_AES_128_GCM_SHA256", all + ":TLS_AES_128_CCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256", all + ":TLS_AES_128_GCM_SHA256"} {
		if err := CheckCiphersuites(list); err == nil {
			t.Errorf("%q: taken", list)
		}
	}
}

// keeperOf is a Keeper that has read files.
func keeperOf(t *testing.T, f Source) *Keeper {
	t.Helper()
	k := NewKeeper()
	if _, err := k.Use(f); err != nil {
		t.Fatal(err)
	}
	return k
}

// replace puts another pair where one is.
func replace(t *testing.T, p, by *redistest.Pair) {
	t.Helper()
	rewrite(t, p.CertPath, read(t, by.CertPath))
	rewrite(t, p.KeyPath, read(t, by.KeyPath))
	touch(t, p.CertPath)
}

var touched = time.Now()

// touch gives a file a time that it has not had.
func touch(t *testing.T, path string) {
	t.Helper()
	touched = touched.Add(time.Second)
	if err := os.Chtimes(path, touched, touched); err != nil {
		t.Fatal(err)
	}
}

// mustRenew renews and compares what came of it.
func mustRenew(t *testing.T, k *Keeper, what string, must, renewed, ok bool) {
	t.Helper()
	if got, err := k.Renew(must); got != renewed || (err == nil) != ok {
		t.Errorf("%s: renewed is %v, %v", what, got, err)
	}
}

func TestKeeperRenewsWhenAFileChanges(t *testing.T) {
	a := redistest.NewAuthority(t)
	p, next := a.Issue(t, "berth"), a.Issue(t, "berth")
	was := serial(p)
	k := keeperOf(t, plain(p))
	serves := func(what, want string) {
		t.Helper()
		if got := shake(t, k.Server(), truster(a, "berth")); got.err != nil || got.serial != want {
			t.Errorf("%s: %+v, want certificate %s", what, got, want)
		}
	}
	serves("at first", was)
	mustRenew(t, k, "nothing has changed", false, false, true)
	mustRenew(t, k, "nothing has changed, but it must", true, true, true)
	replace(t, p, next)
	serves("before it looks", was)
	mustRenew(t, k, "both files have changed", false, true, true)
	serves("afterwards", serial(next))
	mustRenew(t, k, "that was all", false, false, true)
}

func TestKeeperThatHasReadNothingHasNothingToRenew(t *testing.T) {
	k := NewKeeper()
	mustRenew(t, k, "new", true, false, true)
	if _, err := k.Use(&Files{}); err == nil || k.Now() != nil {
		t.Errorf("after files that are none: %v, %v", k.Now(), err)
	}
	mustRenew(t, k, "after an error", true, false, true)
}

func TestBadFileLeavesTheOldOneInForceAndIsReadOnce(t *testing.T) {
	a := redistest.NewAuthority(t)
	p, other := a.Issue(t, "berth"), a.Issue(t, "other")
	good := read(t, p.KeyPath)
	k := keeperOf(t, plain(p))
	spoil := map[string]func(){
		"junk":          func() { rewrite(t, p.KeyPath, "junk"); touch(t, p.KeyPath) },
		"another's key": func() { rewrite(t, p.KeyPath, read(t, other.KeyPath)); touch(t, p.KeyPath) },
		"half a file":   func() { rewrite(t, p.KeyPath, good[:len(good)/2]); touch(t, p.KeyPath) },
		"no file": func() {
			if err := os.Remove(p.KeyPath); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, do := range spoil {
		do()
		if renewed, err := k.Renew(false); err == nil {
			t.Errorf("%s: renewed is %v, and there is no error", name, renewed)
		}
		mustRenew(t, k, name+", again", false, false, true)
		if got := shake(t, k.Server(), truster(a, "berth")); got.err != nil || got.serial != serial(p) {
			t.Errorf("%s: %+v", name, got)
		}
		if _, err := k.Renew(true); err == nil {
			t.Errorf("%s: no error when it must", name)
		}
		rewrite(t, p.KeyPath, good)
		touch(t, p.KeyPath)
		mustRenew(t, k, name+" mended", false, true, true)
	}
	if _, err := k.Use(&Files{Certs: []string{other.CertPath}, Keys: []string{p.KeyPath}, Clients: NotAsked}); err == nil {
		t.Error("a pair that is none was taken")
	}
	mustRenew(t, k, "after other files were refused", false, false, true)
	if got := shake(t, k.Server(), truster(a, "berth")); got.err != nil || got.serial != serial(p) {
		t.Errorf("after other files were refused: %+v", got)
	}
}

// returning is a client that takes up its session.
func returning(a *redistest.Authority, version uint16) *tls.Config {
	c := truster(a, "berth")
	c.ClientSessionCache, c.MaxVersion = tls.NewLRUClientSessionCache(0), version
	return c
}

// mustResume compares whether a client has taken up its session.
func mustResume(t *testing.T, what string, server, client *tls.Config, resumed bool) {
	t.Helper()
	if got := shake(t, server, client); got.err != nil || got.resumed != resumed {
		t.Errorf("%s: resumed is %v, %v", what, got.resumed, got.err)
	}
}

func TestSessionsAreTakenUpAgainAfterARenewal(t *testing.T) {
	a := redistest.NewAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		p := a.Issue(t, "berth")
		k, client := keeperOf(t, plain(p)), returning(a, version)
		mustResume(t, "the first time", k.Server(), client, false)
		mustResume(t, "again", k.Server(), client, true)
		replace(t, p, a.Issue(t, "berth"))
		mustRenew(t, k, "a new certificate", false, true, true)
		mustResume(t, "after a renewal", k.Server(), client, true)
		mustResume(t, "at another berth", keeperOf(t, plain(p)).Server(), client, false)
		without := plain(p)
		without.Tickets = false
		if _, err := k.Use(without); err != nil {
			t.Fatal(err)
		}
		mustResume(t, "without tickets", k.Server(), client, false)
	}
}

func TestKeepersWithTheSameTicketKeysTakeUpEachOthersSessions(t *testing.T) {
	a := redistest.NewAuthority(t)
	old, next := ticketKey(), ticketKey()
	with := func(keys string) (*Files, *Keeper) {
		f := plain(a.Issue(t, "berth"))
		f.TicketKeys = write(t, "tickets", keys)
		return f, keeperOf(t, f)
	}
	_, one := with(old)
	files, two := with(old)
	_, other := with(next)
	client := returning(a, tls.VersionTLS13)
	mustResume(t, "the first time", one.Server(), client, false)
	mustResume(t, "at the other", two.Server(), client, true)
	rewrite(t, files.TicketKeys, next+"\n"+old+"\n")
	touch(t, files.TicketKeys)
	mustRenew(t, two, "a key before the old one", false, true, true)
	mustResume(t, "with the old key", two.Server(), client, true)
	mustResume(t, "with the new key", other.Server(), client, true)
	mustResume(t, "where only the old key is", one.Server(), client, false)
}

// A session is no way around an authority that is not trusted any more, or around being asked at all.
func TestSessionDoesNotOutlastTheTrustInItsClient(t *testing.T) {
	a, b := redistest.NewAuthority(t), redistest.NewAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f := plain(a.Issue(t, "berth"))
		f.Clients, f.CAFile = Optional, write(t, "ca.crt", read(t, a.Path)+read(t, b.Path))
		k := keeperOf(t, f)
		known, anonymous := returning(a, version), returning(a, version)
		known.Certificates = []tls.Certificate{b.Issue(t, "client").Certificate}
		for _, client := range []*tls.Config{known, anonymous} {
			mustResume(t, "the first time", k.Server(), client, false)
			mustResume(t, "again", k.Server(), client, true)
		}
		rewrite(t, f.CAFile, read(t, a.Path))
		touch(t, f.CAFile)
		mustRenew(t, k, "an authority less", false, true, true)
		if got := shake(t, k.Server(), known); got.resumed {
			t.Errorf("a client of an authority that is gone is taken: %+v", got)
		}
		f.Clients = Required
		if _, err := k.Use(f); err != nil {
			t.Fatal(err)
		}
		if got := shake(t, k.Server(), anonymous); got.err == nil {
			t.Errorf("a client that shows nothing is taken: %+v", got)
		}
	}
}

func TestServerNameChoosesTheCertificate(t *testing.T) {
	a := redistest.NewAuthority(t)
	f := plain(a.Issue(t, "first.example"))
	for _, name := range []string{"second.example", "*.third.example"} {
		p := a.IssueRSA(t, name)
		f.Certs, f.Keys = append(f.Certs, p.CertPath), append(f.Keys, p.KeyPath)
	}
	k := keeperOf(t, f)
	for name, want := range map[string]string{
		"first.example": "first.example", "second.example": "second.example", "x.third.example": "*.third.example",
	} {
		if got := shake(t, k.Server(), truster(a, name)); got.err != nil || got.by != want {
			t.Errorf("%s is served by %q, %v", name, got.by, got.err)
		}
	}
	stranger := truster(a, "fourth.example")
	if got := shake(t, k.Server(), stranger); got.err == nil {
		t.Error("a name that is nobody's is served")
	}
	stranger.InsecureSkipVerify = true
	if got := shake(t, k.Server(), stranger); got.err != nil || got.by != "first.example" {
		t.Errorf("a client that does not care is served by %q, %v", got.by, got.err)
	}
}

func TestNodeFilesAreCheckedAndRenewed(t *testing.T) {
	a, stranger := redistest.NewAuthority(t), redistest.NewAuthority(t)
	node, berth := a.Issue(t, "node"), a.Issue(t, "berth")
	server := &tls.Config{Certificates: []tls.Certificate{node.Certificate}, ClientCAs: a.Pool(), ClientAuth: tls.RequireAndVerifyClientCert}
	f := &NodeFiles{CAFile: write(t, "ca.crt", read(t, stranger.Path)), Cert: berth.CertPath, Key: berth.KeyPath, ServerName: "node"}
	k := keeperOf(t, f)
	if got := shake(t, server, k.Now()); got.err == nil {
		t.Error("a node of another authority is taken for ours")
	}
	rewrite(t, f.CAFile, read(t, a.Path))
	touch(t, f.CAFile)
	mustRenew(t, k, "the right authority", false, true, true)
	for _, resumed := range []bool{false, true} {
		mustResume(t, "a node", server, k.Now(), resumed)
	}
	touch(t, f.CAFile)
	mustRenew(t, k, "the same authority", false, true, true)
	mustResume(t, "after a renewal", server, k.Now(), true)
	for what, bad := range map[string]*NodeFiles{
		"no authority in its file": {CAFile: berth.KeyPath}, "no such file": {CAFile: "/nowhere"},
		"a certificate without a key": {Cert: berth.CertPath}, "a key without a certificate": {Key: berth.KeyPath}, "another's key": {Cert: berth.CertPath, Key: node.KeyPath},
	} {
		if _, err := k.Use(bad); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
}
