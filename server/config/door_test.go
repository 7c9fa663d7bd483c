package config

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// doorsOf returns what the doors of a configuration are, with their terms.
func doorsOf(t *testing.T, c *Config) (doors []string) {
	t.Helper()
	all, err := c.Doors()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		from := "-"
		if d.ReadFrom != nil {
			from = d.ReadFrom.String()
		}
		doors = append(doors, fmt.Sprint(d.Network, " ", d.Addr, " ", d.TLS, " ", from, " ", d.ProxyNetworks, " ", d.MaxClients, " ", d.Perm))
	}
	return doors
}

func TestDoorsAreReadFromEverySourceAndTheHighestReplacesTheOthers(t *testing.T) {
	path := writeConfig(t, strings.Join([]string{
		"port 0",
		"listen 0.0.0.0:7380 read-from=prefer-replica",
		"listen [0:0::1]:7390 TLS=no maxclients=500",
		"listen unix:/run/berth//b.sock perm=770 proxy-protocol=10.0.0.0/8,192.0.2.1",
		"listen -LocalHost:7381 proxy-protocol=no",
	}, "\n"))
	s, _ := configure(t, nil, path)
	want := []string{
		"tcp4 0.0.0.0:7380 false prefer-replica [] 0 ----------",
		"tcp6 [::1]:7390 false - [] 500 ----------",
		"unix /run/berth/b.sock false - [10.0.0.0/8 192.0.2.1/32] 0 -rwxrwx---",
		"tcp localhost:7381 false - [] 0 ----------",
	}
	if got := doorsOf(t, s.Load()); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the file: %q\nwant %q", got, want)
	}
	env := []string{"BERTH_LISTEN=*:1 [::*]:2 read-from=any"}
	s, _ = configure(t, env, path)
	if got := listens(t, s.Load()); got != "0.0.0.0:1 [::]:2 read-from=any" {
		t.Errorf("the environment: %q", got)
	}
	s, _ = configure(t, env, path, "--listen", "127.0.0.1:3", "maxclients=7", "--listen=127.0.0.2:4 tls=no", "--listen", "127.0.0.3:5")
	if got := listens(t, s.Load()); got != "127.0.0.1:3 maxclients=7 127.0.0.2:4 127.0.0.3:5" {
		t.Errorf("the flags: %q", got)
	}
}

// listens is what CONFIG GET listen says.
func listens(t *testing.T, c *Config) string {
	t.Helper()
	text, _ := c.Text("listen")
	return text
}

func TestDoorWithoutAPortHasThatOfTheOption(t *testing.T) {
	c := defaultConfig()
	c.Port, c.TLSPort = 7379, 7390
	if err := findOption("listen").setText(c, "127.0.0.2 127.0.0.2 tls=yes [::1]"); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(doorsOf(t, c)[2:])
	if want := "[tcp4 127.0.0.2:7379 false - [] 0 ---------- tcp4 127.0.0.2:7390 true - [] 0 ---------- tcp6 [::1]:7379 false - [] 0 ----------]"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	c.TLSPort = 0
	if _, err := c.Doors(); err == nil || err.Error() != "the address 127.0.0.2 is given without a port, and tls-port is 0" {
		t.Error(err)
	}
}

func TestMistakesInDoorsAreRefusedInWords(t *testing.T) {
	for text, want := range map[string]string{
		"127.0.0.1:7380 color=red":                       "unknown key; the keys are",
		"127.0.0.1:7380 tls=perhaps":                     "tls must be yes or no",
		"127.0.0.1:7380 tls=":                            "tls must be yes or no",
		"127.0.0.1:7380 tls=yes TLS=no":                  "a key stands there twice",
		"127.0.0.1:7380 read-from=moon":                  "read-from must be one of: primary, prefer-replica, replica, any, nearest",
		"127.0.0.1:7380 proxy-protocol=10.0.0.0/99":      "proxy-protocol must be networks",
		"127.0.0.1:7380 proxy-protocol=10.0.0.0/8,":      "proxy-protocol must be networks",
		"127.0.0.1:7380 proxy-protocol=":                 "proxy-protocol must be networks",
		"127.0.0.1:7380 maxclients=0":                    "maxclients must be a number between 1 and",
		"127.0.0.1:7380 maxclients=-1":                   "maxclients must be a number between 1 and",
		"127.0.0.1:7380 maxclients=99999999999999999999": "maxclients must be a number between 1 and",
		"127.0.0.1:7380 perm=770":                        "perm is for unix sockets",
		"unix:/a perm=999":                               "perm must be an octal file mode",
		"unix:/a perm=0":                                 "perm must be an octal file mode",
		"unix:a.sock":                                    "the path of a unix socket must begin with /",
		"unix:":                                          "the path of a unix socket must begin with /",
		"unix:@a":                                        "the path of a unix socket must begin with /",
		`"unix:/a b"`:                                    "must have no blanks",
		`unix:/a\b`:                                      "must have no blanks",
		"unix:/" + strings.Repeat("a", 107):              "at most 107 bytes",
		"127.0.0.1:0":                                    "the port must be a number between 1 and 65535",
		"127.0.0.1:65536":                                "the port must be a number between 1 and 65535",
		"127.0.0.1:redis":                                "the port must be a number between 1 and 65535",
		"127.0.0.1:":                                     "the port must be a number between 1 and 65535",
		"127.0.0.1:+7":                                   "the port must be a number between 1 and 65535",
		":7380":                                          "argument must begin with an address",
		"7380 tls=yes":                                   "a name must have a port",
		"127.0.0.1:7380 tls":                             "address 2: a name must have a port",
		"::1:7390":                                       "an IPv6 address must stand in brackets",
		"::1":                                            "an IPv6 address must stand in brackets",
		"[::1":                                           "argument must begin with an address",
		"[::1]7390":                                      "argument must begin with an address",
		"[127.0.0.1]:7390":                               "argument must begin with an address",
		"[]:7390":                                        "argument must begin with an address",
		"--127.0.0.1:7390":                               "argument must begin with an address",
		"tls=yes":                                        "argument must begin with an address",
		"tls=yes 127.0.0.1:7380":                         "address 1: argument must begin with an address",
		"127.0.0.1:7380 127.0.0.1:7381 tls=perhaps": "address 2: tls must be yes or no",
		"127.0.0.1:7380 tls = yes":                  "address 2: a name must have a port",
		"redis://h:7380":                            "argument must begin with an address",
		strings.Repeat("127.0.0.1:7380 ", 1001):     "there may be 1000 addresses at most",
	} {
		c := defaultConfig()
		err := findOption("listen").setText(c, text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
		if len(c.Listen) > 0 {
			t.Errorf("%q: %d doors are there", text, len(c.Listen))
		}
	}
}

func TestMistakesInDoorsAreReportedWithTheirPlace(t *testing.T) {
	for lines, want := range map[string]string{
		"listen 127.0.0.1:7380 color=red":                  ":1: listen *** ***: unknown key; the keys are tls, read-from, cache, proxy-protocol, maxclients and perm\n",
		"port 1\nlisten nobody@home":                       ":2: listen ***: argument must begin with an address; it takes ADDRESS:PORT, ",
		"listen 127.0.0.1:7380\nlisten 127.0.0.1:7380":     ":2: the address 127.0.0.1:7380 is given twice\n",
		"bind 127.0.0.1\nport 7380\nlisten 127.0.0.1:7380": ":3: the address 127.0.0.1:7380 is given twice\n",
		"unixsocket /run/b\nlisten unix:/run/./b":          ":2: the address /run/b is given twice\n",
		"port 0":                                ":1: there is nothing to listen on; ",
		"listen 127.0.0.1:7380 tls=yes":         "TLS to clients: ",
		"listen 127.0.0.1:9379":                 ":1: 127.0.0.1:9379 is the address of admin-port already; choose another\n",
		"port 0\nlisten 127.0.0.1":              ":2: the address 127.0.0.1 is given without a port, and port is 0\n",
		"listen":                                ":1: listen: wrong number of arguments",
		"listen 127.0.0.1:7380 # read replicas": "; a comment needs a line of its own\n",
		"listen unix:/run/b unix:/run/c perm=1000 [::1]:7390": ":1: listen *** *** *** ***: address 2: perm must be",
	} {
		got := refused(t, nil, "-t", writeConfig(t, lines+"\n"))
		if !strings.Contains(got, want) || strings.Count(got, "\n") != 2 {
			t.Errorf("%q:\n%swant %s", lines, got, want)
		}
	}
}

func TestSocketsThatArePassedAreSomethingToListenOn(t *testing.T) {
	ours := fmt.Sprintf("LISTEN_PID=%d", os.Getpid())
	configure(t, []string{ours, "LISTEN_FDS=1"}, "--port", "0")
	refused(t, []string{ours + "0", "LISTEN_FDS=1"}, "--port", "0")
}

func TestRewriteWritesALineForEachDoor(t *testing.T) {
	const file = "# doors\nport 0\nlisten 127.0.0.1:7380\n# between\nlisten 127.0.0.1:7381 maxclients=5\nmaxclients 9\n"
	path := writeConfig(t, file)
	s, _ := configure(t, nil, path)
	for _, step := range []struct{ set, want string }{
		{"127.0.0.1:7380 127.0.0.1:7381 maxclients=5", file},
		{"unix:/run/b perm=660 [::1]:7390 read-from=any 127.0.0.1:7382 proxy-protocol=no",
			"# doors\nport 0\nlisten unix:/run/b perm=660\n# between\nlisten [::1]:7390 read-from=any\nmaxclients 9\n" +
				rewriteSignature + "\nlisten 127.0.0.1:7382 proxy-protocol=no\n"},
		{"unix:/run/b", "# doors\nport 0\nlisten unix:/run/b\n# between\nmaxclients 9\n" + rewriteSignature + "\n"},
		{"", "# doors\nport 0\n# between\nmaxclients 9\n" + rewriteSignature + "\n"},
		{"-10.0.0.1:7380 proxy-protocol=10.0.0.0/8,::/0", "# doors\nport 0\n# between\nmaxclients 9\n" + rewriteSignature + "\nlisten -10.0.0.1:7380 proxy-protocol=10.0.0.0/8,::/0\n"},
	} {
		if err := s.Set("listen", step.set); err != nil {
			t.Fatalf("%s: %v", step.set, err)
		}
		if err := s.Rewrite(); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != step.want {
			t.Errorf("%s:\n%s\nwant\n%s", step.set, got, step.want)
		}
		if step.set == "" {
			continue
		}
		again, _ := configure(t, nil, path)
		if listens(t, again.Load()) != step.set || listens(t, s.Load()) != step.set {
			t.Errorf("%s is read again as %s", step.set, listens(t, again.Load()))
		}
	}
}

// What CONFIG GET says can be set, and says the same.
func FuzzDoorsAreReadAsTheyAreWritten(f *testing.F) {
	for _, seed := range []string{"127.0.0.1:7380 tls=yes", "[::]:1 unix:/a=b perm=7", "*:5 maxclients=3 -localhost:1 proxy-protocol=::/0,1.2.3.4", "[fe80::1%eth0]:7"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := defaultConfig()
		if findOption("listen").setText(c, text) != nil {
			return
		}
		was := listens(t, c)
		words := defaultConfig()
		if err := findOption("listen").setText(words, was); err != nil || listens(t, words) != was {
			t.Errorf("%q is written %q: %v, %q", text, was, err, listens(t, words))
		}
		lines := defaultConfig()
		for _, line := range findOption("listen").value.lines(c) {
			l := parseConfigLine("listen " + line)
			if l.bad != nil {
				t.Fatalf("%q: line %q: %v", text, line, l.bad)
			}
			if err := l.option.addWords(lines, l.words); err != nil {
				t.Fatalf("%q: line %q: %v", text, line, err)
			}
		}
		if listens(t, lines) != was {
			t.Errorf("%q: the lines say %q, not %q", text, listens(t, lines), was)
		}
	})
}
