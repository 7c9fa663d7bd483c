package config

import "strconv"

// Secret is text that must not be shown. Printed or logged in any way it is stars.
type Secret string

// Reveal returns the text, for the code that sends it to a node.
func (s Secret) Reveal() string { return string(s) }

// String hides the text.
func (s Secret) String() string { return maskSecret(string(s)) }

// GoString hides the text from %#v.
func (s Secret) GoString() string { return strconv.Quote(s.String()) }

// MarshalText hides the text from encoders, also from those of slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func maskSecret(text string) string {
	if text == "" {
		return ""
	}
	return "***"
}
