package certs

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

// ParseVersions reads versions of the protocol by the names that OpenSSL and redis.conf have for
// them. Versions before 1.2 are not spoken. The ones that are named must be neighbours.
func ParseVersions(names []string) (Versions, error) {
	v := Versions{Min: tls.VersionTLS12, Max: tls.VersionTLS13}
	if len(names) == 0 {
		return v, nil
	}
	v = Versions{Min: tls.VersionTLS13, Max: tls.VersionTLS12}
	for _, name := range names {
		switch strings.ToLower(name) {
		case "tlsv1.2":
			v.Min = tls.VersionTLS12
		case "tlsv1.3":
			v.Max = tls.VersionTLS13
		default:
			return v, fmt.Errorf("argument must be made of TLSv1.2 and TLSv1.3; %s is not spoken", name)
		}
	}
	return v, nil
}

// ParseCiphers reads the cipher suites of TLS 1.2 by the names that OpenSSL and redis.conf have for
// them, with colons between. Words that leave out what berth does not speak anyway change nothing.
func ParseCiphers(list string) (ids []uint16, err error) {
	known := map[string]uint16{}
	for _, suite := range tls.CipherSuites() {
		if slices.Contains(suite.SupportedVersions, tls.VersionTLS12) {
			known[opensslName(suite.Name)] = suite.ID
		}
	}
	all := false
	for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return strings.ContainsRune(": ,", r) }) {
		switch id, ok := known[strings.ToUpper(name)]; {
		case ok:
			ids = append(ids, id)
		case strings.HasPrefix(name, "@"):
		case strings.HasPrefix(name, "!"), strings.HasPrefix(name, "-"):
			if _, ok := known[strings.ToUpper(name[1:])]; ok {
				return nil, fmt.Errorf("argument must name the cipher suites that are allowed, not those that are not: %s", name)
			}
		case name == "DEFAULT", name == "HIGH", name == "SECURE", name == "ALL":
			all = true
		default:
			return nil, fmt.Errorf("argument must be names of cipher suites of TLS 1.2; %s is not spoken", name)
		}
	}
	if all {
		return nil, nil
	}
	return ids, nil
}

// opensslName is OpenSSL's name of a cipher suite: ECDHE-RSA-AES128-GCM-SHA256.
func opensslName(name string) string {
	name = strings.TrimPrefix(name, "TLS_")
	name = strings.NewReplacer("_WITH_", "-", "AES_", "AES", "_CBC_", "-", "POLY1305_SHA256", "POLY1305").Replace(name)
	return strings.ReplaceAll(name, "_", "-")
}

// CheckCiphersuites refuses a list of TLS 1.3's cipher suites that leaves one out: crypto/tls always
// offers all three, the one that is fastest on both machines first.
func CheckCiphersuites(list string) error {
	var left []string
	for _, suite := range tls.CipherSuites() {
		if slices.Contains(suite.SupportedVersions, tls.VersionTLS13) {
			left = append(left, suite.Name)
		}
	}
	for name := range strings.FieldsFuncSeq(list, func(r rune) bool { return strings.ContainsRune(": ,", r) }) {
		at := slices.Index(left, strings.ToUpper(name))
		if at < 0 {
			return fmt.Errorf("argument must be names of cipher suites of TLS 1.3; %s is not spoken", name)
		}
		left = slices.Delete(left, at, at+1)
	}
	if len(left) > 0 {
		return fmt.Errorf("%s cannot be left out: TLS 1.3 has three cipher suites here, or set tls-protocols to TLSv1.2", left[0])
	}
	return nil
}
