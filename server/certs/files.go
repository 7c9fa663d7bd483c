package certs

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/youmark/pkcs8"
)

// Files is what the configuration says of TLS to clients.
type Files struct {
	Certs, Keys []string // paths; the n-th key is the n-th certificate's
	Password    string   // of the keys; "": they are not encrypted
	CAFile      string   // of the authorities for the certificates of clients
	CADir       string   // likewise
	Clients     ClientCert
	Versions    Versions
	Ciphers     []uint16 // of TLS 1.2; nil: those of crypto/tls
	Tickets     bool     // sessions are taken up again
	TicketKeys  string   // path; "": each process makes its own
}

// ClientCert says whether clients show certificates.
type ClientCert uint8

const (
	Required ClientCert = iota
	NotAsked
	Optional // one that is shown must be good
)

// Versions are the lowest and the highest version of the protocol.
type Versions struct{ Min, Max uint16 }

func (f *Files) paths() []string {
	paths := slices.Concat(f.Certs, f.Keys, []string{f.CAFile, f.CADir, f.TicketKeys})
	entries, _ := os.ReadDir(f.CADir) // Load complains
	for _, e := range entries {
		paths = append(paths, filepath.Join(f.CADir, e.Name()))
	}
	return paths
}

// Load reads the files.
func (f *Files) Load() (*tls.Config, error) {
	config := &tls.Config{
		MinVersion: f.Versions.Min, MaxVersion: f.Versions.Max, CipherSuites: f.Ciphers,
		SessionTicketsDisabled:      !f.Tickets,
		DynamicRecordSizingDisabled: true, // whoever reads one reply waits for its end
	}
	if len(f.Certs) == 0 {
		return nil, errors.New("there is no certificate: set tls-cert-file")
	}
	if len(f.Keys) != len(f.Certs) {
		return nil, fmt.Errorf("tls-cert-file names %d files and tls-key-file %d: each certificate needs its key", len(f.Certs), len(f.Keys))
	}
	for i := range f.Certs {
		cert, err := loadPair(f.Certs[i], f.Keys[i], f.Password)
		if err != nil {
			return nil, err
		}
		config.Certificates = append(config.Certificates, cert)
	}
	if f.Clients != NotAsked {
		authorities, err := loadAuthorities(f.CAFile, f.CADir)
		if err != nil {
			return nil, err
		}
		config.ClientCAs = authorities
		config.ClientAuth = tls.RequireAndVerifyClientCert
		if f.Clients == Optional {
			config.ClientAuth = tls.VerifyClientCertIfGiven
		}
	}
	if f.TicketKeys != "" && f.Tickets {
		keys, err := loadTicketKeys(f.TicketKeys)
		if err != nil {
			return nil, err
		}
		config.SetSessionTicketKeys(keys)
	}
	return config, nil
}

// loadPair reads a certificate, with those that lead to its authority, and its key.
func loadPair(certPath, keyPath, password string) (tls.Certificate, error) {
	chain, err := os.ReadFile(certPath)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := os.ReadFile(keyPath)
	if err != nil {
		return tls.Certificate{}, err
	}
	if key, err = decrypt(key, password); err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", keyPath, err)
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s with %s: %w", certPath, keyPath, err)
	}
	return cert, nil
}

// decrypt returns a key that needs no password. It leaves alone what is not encrypted.
func decrypt(key []byte, password string) ([]byte, error) {
	for rest := key; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return key, nil
		}
		old := block.Headers["DEK-Info"] != "" // the form of OpenSSL before PKCS #8
		if !old && block.Type != "ENCRYPTED PRIVATE KEY" {
			continue
		}
		if password == "" {
			return nil, errors.New("the key is encrypted: set tls-key-file-pass")
		}
		if old {
			return decryptOld(block, password)
		}
		private, err := pkcs8.ParsePKCS8PrivateKey(block.Bytes, []byte(password))
		if err != nil {
			return nil, fmt.Errorf("the key does not open with tls-key-file-pass: %w", err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			return nil, err
		}
		return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
	}
}

// decryptOld opens a key of the form that OpenSSL wrote before 3.0. The form is weak, but the key is
// berth's own file.
func decryptOld(block *pem.Block, password string) ([]byte, error) {
	der, err := x509.DecryptPEMBlock(block, []byte(password)) //lint:ignore SA1019 nobody else's bytes are decrypted
	if err != nil {
		return nil, fmt.Errorf("the key does not open with tls-key-file-pass: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der}), nil
}

// loadAuthorities reads the certificates of authorities from a file and from a directory, in which
// other files may lie.
func loadAuthorities(file, dir string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	found := false
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: there is no certificate in it", file)
		}
		found = true
	}
	if dir != "" {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if text, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil && pool.AppendCertsFromPEM(text) {
				found = true
			}
		}
	}
	if !found {
		return nil, errors.New("clients are asked for certificates, but there is no authority to check them by: " +
			"set tls-ca-cert-file or tls-ca-cert-dir, or tls-auth-clients to no")
	}
	return pool, nil
}

// ticketKeySize is the length of a key that session tickets are encrypted with.
const ticketKeySize = 32

// loadTicketKeys reads a key a line, in base64. New tickets are encrypted with the first one; those
// of the others are still taken.
func loadTicketKeys(path string) (keys [][ticketKeySize]byte, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(key) != ticketKeySize {
			return nil, fmt.Errorf("%s: a line is not the base64 of %d bytes; `openssl rand -base64 %d` makes one", path, ticketKeySize, ticketKeySize)
		}
		keys = append(keys, [ticketKeySize]byte(key))
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s: there is no key in it; `openssl rand -base64 %d` makes one", path, ticketKeySize)
	}
	return keys, nil
}
