package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUsersOfCertificatesAreReadWithTheirPasswords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users")
	c := &Config{TLSAuthClientsUser: true, TLSAuthClientsUserFile: path}
	for _, test := range []struct{ text, user, password, wrong string }{
		{"# users\n\nann secret\nbob  \"two words\"\n", "bob", "two words", ""},
		{"ann secret\r\n", "ann", "secret", ""},
		{"ann secret\n", "bob", "", ""},
		{"ann\n", "ann", "", "line 1"},
		{"ann \"\"\n", "ann", "", "line 1"},
		{"bob pw\nann secret more\n", "bob", "", "line 2"},
		{"ann \"secret\n", "ann", "", "line 1"},
		{"ann secret\nann other\n", "ann", "", "line 2"},
	} {
		if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		password, known, err := c.CertUser(test.user)
		if password.Reveal() != test.password || known != (test.password != "") {
			t.Errorf("%q: %s has %q, %v", test.text, test.user, password.Reveal(), known)
		}
		if wrong := c.CheckCertUsers(); (wrong == nil) != (err == nil) || (err == nil) != (test.wrong == "") ||
			err != nil && (!strings.Contains(err.Error(), test.wrong) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %v, %v", test.text, err, wrong)
		}
	}
	c.TLSAuthClientsUser = false
	if _, known, err := c.CertUser("ann"); known || err != nil || c.CheckCertUsers() != nil {
		t.Errorf("certificates name users although they shall not: %v", err)
	}
	c = &Config{TLSAuthClientsUser: true}
	if _, known, err := c.CertUser("ann"); known || err == nil || c.CheckCertUsers() == nil {
		t.Error("no file is no error")
	}
}
