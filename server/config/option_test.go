package config

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// aValueFor gives a value of the option's type that is not its default, and one that its type
// forbids.
func aValueFor(t *testing.T, o *option) (good, bad string) {
	t.Helper()
	switch o.name {
	case "cache-keys", "cache-not-keys":
		return "user:* session:[a-z]*", strings.Repeat("a", 5000)
	case "lease-commands":
		return "mod.slow -ft.info -vsim", "mod.slow -get"
	case "shutdown-blocked":
		return "unblocked", "gone"
	case "orphan-pop":
		return "drop", "keep"
	case "announce-ip":
		return "192.0.2.7", "192.0.2.7:1"
	case "listen":
		return "127.0.0.1:7380 tls=yes read-from=any [::1]:7390 maxclients=5", "127.0.0.1:7380 color=red"
	case "proxy-protocol-networks":
		return "10.0.0.0/8 192.0.2.7/32", "10.0.0.0/40"
	case "tls-cert-file", "tls-key-file":
		return "/etc/a.pem /etc/b.pem", ""
	case "tls-auth-clients-user":
		return "CN", "URI"
	case "tls-auth-clients":
		return "optional", "maybe"
	case "tls-protocols":
		return "TLSv1.3", "TLSv1.1"
	case "tls-ciphers":
		return "ECDHE-RSA-AES128-GCM-SHA256", "RC4-MD5"
	case "tls-ciphersuites":
		return "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"
	}
	switch v := o.value.(type) {
	case numberValue:
		return fmt.Sprint(*v.at(defaultConfig()) + 1), "many"
	case sizeValue:
		return "3mb", "3 potatoes"
	case memoryShareValue:
		return "30%", "130%"
	case durationValue:
		return fmt.Sprint(int(*v.at(defaultConfig())/v.per) + 1), "soon"
	case choiceValue[bool]:
		return map[string]string{"no": "yes", "yes": "no", "0": "1", "1": "0"}[o.def], "maybe"
	case outputLimitsValue:
		return "normal 1048576 2048 3 pubsub 4096 512 6", "normal 1mb"
	case listValue:
		return "127.0.0.2 -::1", "127.0.0.1:7379"
	case modeValue:
		return "770", "999"
	case backendValue:
		return "redis://a:7001,b:7002", "http://a"
	case textValue[string]:
		if o.name == passwordFile {
			return writeConfig(t, "open sesame"), ""
		}
		return "/run/x y", ""
	case textValue[Secret]:
		return "open sesame", ""
	}
	if o.name == "read-from" {
		return "any", "nobody"
	}
	if o.name == "loglevel" {
		return "debug", "loud"
	}
	if o.name == "log-format" {
		return "json", "xml"
	}
	t.Fatalf("option %s: the tests know no value of type %T", o.name, o.value)
	return "", ""
}

func TestEveryOptionHasAUsableDefault(t *testing.T) {
	c := defaultConfig()
	for _, o := range options {
		again := defaultConfig()
		if err := o.setText(again, o.value.text(c)); err != nil {
			t.Errorf("%s: its default %q is refused: %v", o.name, o.value.text(c), err)
		}
		if got, want := o.value.text(again), o.value.text(c); got != want {
			t.Errorf("%s: default %q reads back as %q", o.name, want, got)
		}
		if o.help == "" || strings.Contains(o.help, "\n") || o.value.unit() == "" || o.value.wants() == "" {
			t.Errorf("%s: a row needs help in one line, a unit and what it wants", o.name)
		}
	}
}

func TestEveryOptionTakesAValueAndRefusesAWrongOne(t *testing.T) {
	for _, o := range options {
		good, bad := aValueFor(t, o)
		c := defaultConfig()
		if err := o.setText(c, good); err != nil {
			t.Errorf("%s %s: %v", o.name, good, err)
		}
		if o.value.text(c) == o.value.text(defaultConfig()) {
			t.Errorf("%s %s: nothing changed", o.name, good)
		}
		before := *c
		if bad != "" {
			if err := o.setText(c, bad); err == nil {
				t.Errorf("%s takes %q", o.name, bad)
			}
		}
		if err := o.setWords(c, nil); err == nil {
			t.Errorf("%s takes no value at all", o.name)
		}
		if o.value.text(c) != o.value.text(&before) && bad != "" {
			t.Errorf("%s: a refused value has changed it", o.name)
		}
	}
}

func TestEveryRangeHoldsAtBothEnds(t *testing.T) {
	for _, o := range options {
		var low, high int
		switch v := o.value.(type) {
		case numberValue:
			low, high = v.min, v.max
		case sizeValue:
			low, high = v.min, v.max
		case durationValue:
			low, high = v.min, v.max
		default:
			continue
		}
		c := defaultConfig()
		for _, n := range []int{low, high} {
			if err := o.setText(c, fmt.Sprint(n)); err != nil {
				t.Errorf("%s %d: %v", o.name, n, err)
			}
			if got := o.value.text(c); got != fmt.Sprint(n) {
				t.Errorf("%s %d reads back as %s", o.name, n, got)
			}
		}
		want := fmt.Sprintf("argument must be between %d and %d inclusive", low, high)
		outside := []int{low - 1}
		if _, isSize := o.value.(sizeValue); isSize && low == 0 {
			outside = nil
		}
		if high < math.MaxInt {
			outside = append(outside, high+1)
		}
		for _, n := range outside {
			if err := o.setText(c, fmt.Sprint(n)); err == nil || err.Error() != want {
				t.Errorf("%s %d: got error %v, want %q", o.name, n, err, want)
			}
		}
	}
}

func TestEveryHotOptionChangesWhileRunningAndCallsItsHooks(t *testing.T) {
	for _, o := range options {
		good, bad := aValueFor(t, o)
		s := defaults(t)
		told, toldOthers := 0, 0
		s.OnChange(func(now *Config) {
			told++
			if now != s.Load() {
				t.Errorf("%s: the hook was given another snapshot than Load gives", o.name)
			}
		}, o.name)
		other := "port"
		if o.name == other {
			other = "bind"
		}
		s.OnChange(func(*Config) { toldOthers++ }, other)
		before := s.Load()
		err := s.Set(o.name, good)
		if !o.hot {
			if want := "ERR CONFIG SET failed (possibly related to argument '" + o.name + "') - can't set immutable config"; err == nil || err.Error() != want {
				t.Errorf("%s: got %v, want %q", o.name, err, want)
			}
			err = s.Set(o.name, o.shown(before))
			if taken := err == nil; taken == slices.Contains(immutableInRedis, o.name) || o.value.text(s.Load()) != o.value.text(before) {
				t.Errorf("%s: its own value: %v", o.name, err)
			}
			continue
		}
		if err != nil || told != 1 || toldOthers != 0 || s.Load() == before {
			t.Errorf("%s: error %v, its hook called %d times, another's %d times", o.name, err, told, toldOthers)
		}
		if o.value.text(before) != o.value.text(defaultConfig()) {
			t.Errorf("%s: the older snapshot has changed", o.name)
		}
		if err := s.Set(strings.ToUpper(o.name), good); err != nil || told != 1 {
			t.Errorf("%s: setting what is set: error %v, its hook called %d times in all", o.name, err, told)
		}
		if err := s.Set(o.name, bad); bad != "" && err == nil {
			t.Errorf("%s takes %q", o.name, bad)
		}
	}
}

func TestOptionsLandInTheirOwnField(t *testing.T) {
	for _, o := range options {
		good, _ := aValueFor(t, o)
		c := defaultConfig()
		if err := o.setText(c, good); err != nil {
			t.Fatal(err)
		}
		if got := changedOptions(defaultConfig(), c); len(got) != 1 || got[0] != o.name {
			t.Errorf("setting %s changed %v", o.name, got)
		}
	}
}

func TestEnvironmentNamesAreUnique(t *testing.T) {
	seen := map[string]string{}
	for _, o := range options {
		if other := seen[o.env()]; other != "" {
			t.Errorf("%s and %s are both %s", o.name, other, o.env())
		}
		seen[o.env()] = o.name
	}
}

func TestSizesAreReadAsRedisReadsThem(t *testing.T) {
	for text, want := range map[string]int{"0": 0, "10": 10, "10b": 10, "1k": 1000, "1kb": 1024, "1K": 1000, "1KB": 1024,
		"1m": 1e6, "1mb": 1 << 20, "1g": 1e9, "1Gb": 1 << 30, "8589934591gb": 8589934591 << 30} {
		if got, err := parseMemory(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "b", "kb", "-1", "+1", "1.5mb", "1tb", "1 mb", "9223372036854775808", "8589934592gb", "99999999999999999999"} {
		if got, err := parseMemory(text); err == nil {
			t.Errorf("%q is taken for %d bytes", text, got)
		}
	}
}

func TestDurationsTakeSuffixesThatComeOutEven(t *testing.T) {
	for _, c := range []struct {
		text string
		unit time.Duration
		want int
	}{{"5", time.Second, 5}, {"5s", time.Second, 5}, {"2m", time.Second, 120}, {"1H", time.Second, 3600}, {"1d", time.Second, 86400},
		{"3000ms", time.Second, 3}, {"3s", time.Millisecond, 3000}, {"250ms", time.Millisecond, 250}} {
		if got, err := parseSpan(c.text, c.unit); err != nil || got != c.want {
			t.Errorf("%s in %s: got %d, %v, want %d", c.text, c.unit, got, err, c.want)
		}
	}
	for _, text := range []string{"", "s", "1500ms", "1.5s", "-3s", "1y", "9999999999999d", "0x1s"} {
		if got, err := parseSpan(text, time.Second); err == nil {
			t.Errorf("%q is taken for %d seconds", text, got)
		}
	}
}

func TestAMistypedNameIsRecognised(t *testing.T) {
	for name, want := range map[string]string{"prot": "port", "max-clients": "maxclients", "private-conn-pool-enabled": "private_conn_pool_enabled",
		"log-level": "loglevel", "tcp_keepalive": "tcp-keepalive", "xyz": "", "hello-world": ""} {
		if got := nearestOption(name); got != want {
			t.Errorf("%s: suggested %q, want %q", name, got, want)
		}
	}
}

func TestLeaseCommandsNamesBothKinds(t *testing.T) {
	for words, want := range map[string]string{
		"":                             "map[]",
		"Mod.Slow -FT.info -vsim VADD": "map[ft.info:false mod.slow:true vadd:true vsim:false]",
		"mod.x -mod.x":                 "map[mod.x:false]",
	} {
		c := defaultConfig()
		if err := findOption("lease-commands").setText(c, words); err != nil {
			t.Errorf("%q: %v", words, err)
		}
		if got := fmt.Sprint(c.LeasedCommands()); got != want {
			t.Errorf("%q: %s, want %s", words, got, want)
		}
	}
	for _, words := range []string{"get", "-BLPOP", "config|get", "proxy", "-", "--mod.x", "mod.x -"} {
		if findOption("lease-commands").setText(defaultConfig(), words) == nil {
			t.Errorf("%q is taken", words)
		}
	}
}
