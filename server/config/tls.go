package config

import (
	"errors"
	"strings"

	"github.com/berth-proxy/berth/server/certs"
)

func checkPath(path string) error {
	if path == "" {
		return errors.New("argument must be the path of a file")
	}
	return nil
}

func checkTLSProtocol(name string) error {
	_, err := certs.ParseVersions([]string{name})
	return err
}

func checkTLSCiphers(names string) error {
	_, err := certs.ParseCiphers(names)
	return err
}

// TLSOptions names the options that TLS to clients depends on.
func TLSOptions() (names []string) {
	for _, o := range options {
		if strings.HasPrefix(o.name, "tls-") && o.name != "tls-handshake-timeout" {
			names = append(names, o.name)
		}
	}
	return names
}
