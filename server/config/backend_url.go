package config

import "github.com/berth-proxy/berth/backend/nodes"

// BackendURL is the value of the backend option.
type BackendURL struct {
	nodes.Target // without Addrs: the embedded backend

	raw Secret // the URL as it was written
}

// Embedded reports whether no backend was named, so that the embedded one serves.
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

// maskBackendURL replaces a URL's password with stars. It hides the whole of a URL that is wrong.
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
