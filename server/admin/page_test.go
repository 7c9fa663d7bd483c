package admin

import (
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// answerOf is the status code of a request to a listener.
func answerOf(a *Endpoint, loopback bool, host, path string) int {
	r := httptest.NewRequest("GET", path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	a.handler(loopback).ServeHTTP(w, r)
	return w.Code
}

// A page of another site whose name leads to 127.0.0.1 must not read who berth's clients are.
func TestStatusOfALoopbackListenerIsForThisMachine(t *testing.T) {
	asked := false
	a := &Endpoint{source: Source{Status: func() []byte { asked = true; return []byte("{}") }}}
	for _, c := range []struct {
		loopback bool
		host     string
		want     int
	}{{true, "127.0.0.1:9379", 200}, {true, "evil.example:9379", 403}, {false, "wall.example:9379", 200}} {
		asked = false
		if code := answerOf(a, c.loopback, c.host, "/status.json"); code != c.want || asked != (c.want == 200) {
			t.Errorf("loopback %v, host %s: %d", c.loopback, c.host, code)
		}
	}
}

func TestStatusPageIsOneFileThatMayRunNothingElse(t *testing.T) {
	base := strings.TrimSuffix(startAdmin(t, func() error { return nil }).URL(), "/metrics")
	code, body, header := fetch(t, base+"/status")
	if code != 200 || header.Get("Content-Type") != "text/html; charset=utf-8" || body != statusPage {
		t.Fatalf("status %d, type %s, %d bytes", code, header.Get("Content-Type"), len(body))
	}
	policy := header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "script-src 'sha256-", "style-src 'sha256-", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy has no %s: %s", want, policy)
		}
	}
	if strings.Contains(policy, "unsafe") {
		t.Errorf("the policy allows what is unsafe: %s", policy)
	}
	for pattern, most := range map[string]int{
		`<script`: 1, `<style`: 1, `<link`: 0, `<img`: 0, `<iframe`: 0, `\ssrc=`: 0, `\sstyle=`: 0, `\son\w+=`: 0, `url\(`: 0, `@import`: 0,
		`https?://`: 1, // the name space of SVG
	} {
		if n := len(regexp.MustCompile(`(?i)`+pattern).FindAllString(body, -1)); n > most {
			t.Errorf("%s is there %d times", pattern, n)
		}
	}
	for _, path := range []string{"/status/", "/status/x", "/status.html"} {
		if code, _, _ := fetch(t, base+path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
}

// The page makes text of all it is told: nothing in it reads HTML, and what it reads is JSON without a '<'.
func TestThePageReadsNoHTML(t *testing.T) {
	_, script, _ := strings.Cut(statusPage, "<script>")
	for _, word := range []string{
		"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "createContextualFragment", "DOMParser", "srcdoc",
		"setHTML", "eval(", "Function(", "javascript:", "importScripts", "import(",
	} {
		if strings.Contains(script, word) {
			t.Errorf("the page uses %s", word)
		}
	}
}

// A bar is full when the node takes no more, not when no other bar is longer.
func TestBarsOfThePageShowTheShareOfTheLimit(t *testing.T) {
	share := regexp.MustCompile(`(?m)^const share = .*`).FindString(statusPage)
	out, err := exec.Command("node", "-e", share+`
		console.log(share(8, 8995, 8).toFixed(2), share(8995, 8995, 8995), share(2, 0, 8), share(0, 0, 4), share(9000, 8995, 9000))`).CombinedOutput()
	if err != nil || string(out) != "0.09 100 25 0 100\n" {
		t.Errorf("%v: %s", err, out)
	}
}
