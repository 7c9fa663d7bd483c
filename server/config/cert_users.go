package config

import (
	"fmt"
	"strings"
)

// CertUser returns the password of the user whom a certificate names, as tls-auth-clients-user-file has
// it now; known is false if that has no such user, or if certificates name nobody.
func (c *Config) CertUser(name string) (password Secret, known bool, err error) {
	if !c.TLSAuthClientsUser {
		return "", false, nil
	}
	users, err := readUsers(c.TLSAuthClientsUserFile)
	if err != nil {
		return "", false, err
	}
	password, known = users[name]
	return password, known, nil
}

// CheckCertUsers says why certificates cannot name users.
func (c *Config) CheckCertUsers() error {
	if !c.TLSAuthClientsUser {
		return nil
	}
	if c.TLSAuthClientsUserFile == "" {
		return fmt.Errorf("tls-auth-clients-user needs tls-auth-clients-user-file: berth must log in at the nodes as the user")
	}
	_, err := readUsers(c.TLSAuthClientsUserFile)
	return err
}

// readUsers reads a file of which each line has a user and a password, quoted as in redis.conf. No error
// contains a part of the file, which is full of passwords.
func readUsers(path string) (map[string]Secret, error) {
	text, err := readConfigFile(path)
	if err != nil {
		return nil, err
	}
	users := map[string]Secret{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		words, err := splitWords(line)
		if err != nil || len(words) != 2 || words[0] == "" || words[1] == "" {
			return nil, fmt.Errorf("%s, line %d: it must have a user and a password", path, n)
		}
		if _, twice := users[words[0]]; twice {
			return nil, fmt.Errorf("%s, line %d: the user comes twice", path, n)
		}
		users[words[0]] = Secret(words[1])
	}
	return users, nil
}
