package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// NodeFiles is what the configuration says of TLS to nodes.
type NodeFiles struct {
	CAFile     string // "": the authorities of the machine
	Cert, Key  string // that berth shows; "": none
	Password   string // of the key
	ServerName string // in the nodes' certificates; "": each node's host
	SkipVerify bool   // whoever answers is taken for the node

	sessions tls.ClientSessionCache
}

func (f *NodeFiles) paths() []string { return []string{f.CAFile, f.Cert, f.Key} }

// Load reads the files.
func (f *NodeFiles) Load() (*tls.Config, error) {
	if f.sessions == nil {
		f.sessions = tls.NewLRUClientSessionCache(0)
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, ServerName: f.ServerName, InsecureSkipVerify: f.SkipVerify,
		ClientSessionCache: f.sessions, DynamicRecordSizingDisabled: true,
	}
	if f.CAFile != "" {
		text, err := os.ReadFile(f.CAFile)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s: there is no certificate in it", f.CAFile)
		}
	}
	if f.Cert != "" || f.Key != "" {
		cert, err := loadPair(f.Cert, f.Key, f.Password)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}
