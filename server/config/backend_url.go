package config

import "github.com/berth-proxy/berth/backend/nodes"

// BackendURL is what the backend option names, and how it was written.
type BackendURL struct {
	nodes.Target // without Addrs: the embedded backend

	raw Secret
}

// Embedded reports that no backend was named.
func (b BackendURL) Embedded() bool { return b.raw == "" }

// MarshalText hides the password from encoders.
func (b BackendURL) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

func parseBackendURL(raw string) (BackendURL, error) {
	if raw == "" {
		return BackendURL{}, nil
	}
	target, err := nodes.ParseTarget(raw)
	return BackendURL{Target: target, raw: Secret(raw)}, err
}

// maskBackendURL puts stars in the place of a URL's password.
func maskBackendURL(raw string) string {
	u, err := parseBackendURL(raw)
	switch {
	case err != nil:
		return maskSecret(raw)
	case u.Password == "":
		return raw
	}
	return u.String()
}
