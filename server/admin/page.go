package admin

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"strings"
)

// serveStatus returns the handler of /status.json.
func serveStatus(report func() []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(report())
	}
}

//go:embed status.html
var statusPage string

// statusPolicy lets the page run its own script and style and ask this server, and nothing else. If
// a client's name ever got into the page as HTML, the HTML would do nothing.
var statusPolicy = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" +
	"; script-src " + inlineHash(statusPage, "script") + "; style-src " + inlineHash(statusPage, "style")

// inlineHash returns the Content-Security-Policy source of the page's only element of that name.
func inlineHash(page, element string) string {
	_, rest, _ := strings.Cut(page, "<"+element+">")
	text, _, found := strings.Cut(rest, "</"+element+">")
	if !found {
		panic("status.html has no " + element)
	}
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}

// serveStatusPage serves /status.
func serveStatusPage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", statusPolicy)
	h.Set("Cache-Control", "no-cache")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write([]byte(statusPage))
}
