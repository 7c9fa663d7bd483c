package config

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// configure runs Read and fails the test unless berth would start.
func configure(t *testing.T, environ []string, args ...string) (*Settings, string) {
	t.Helper()
	var stdout, stderr strings.Builder
	s, exit := Read(args, environ, &stdout, &stderr)
	if s == nil {
		t.Fatalf("berth %q ends with %d:\n%s%s", args, exit, stdout.String(), stderr.String())
	}
	return s, stdout.String() + stderr.String()
}

// refused runs Read and returns what it writes; Read must end with exit code 1.
func refused(t *testing.T, environ []string, args ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	s, exit := Read(args, environ, &stdout, &stderr)
	if s != nil || exit != 1 || stdout.Len() > 0 {
		t.Fatalf("berth %q: started %v, exit %d, stdout %q", args, s != nil, exit, stdout.String())
	}
	return stderr.String()
}

// writeConfig makes a configuration file and returns its path.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "berth.conf")
	if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsOverrideEnvironmentOverridesFileOverridesDefaults(t *testing.T) {
	path := writeConfig(t, "port 1001\ntimeout 1\nmaxclients 11\n")
	s, _ := configure(t, []string{"BERTH_TIMEOUT=2", "BERTH_MAXCLIENTS=12", "HOME=/"}, path, "--maxclients", "13")
	c := s.Load()
	if c.Port != 1001 || c.Timeout != 2*time.Second || c.MaxClients != 13 || c.AdminPort != 9379 {
		t.Errorf("port %d, timeout %v, maxclients %d, admin-port %d", c.Port, c.Timeout, c.MaxClients, c.AdminPort)
	}
	if s.File() != path {
		t.Errorf("configuration file %q, want %q", s.File(), path)
	}
}

func TestTheBackendMayComeBeforeOrAfterTheFlags(t *testing.T) {
	for _, args := range [][]string{
		{"redis://a:1,b:2", "--port", "5", "--bind", "127.0.0.1", "::1"},
		{"--bind", "127.0.0.1", "::1", "--port", "5", "redis://a:1,b:2"},
		{"--port=5", "--bind", "127.0.0.1", "::1", "redis://a:1,b:2"},
		{"--backend", "redis://a:1,b:2", "--bind=127.0.0.1 ::1", "--PORT", "5"},
	} {
		s, _ := configure(t, nil, args...)
		c := s.Load()
		if fmt.Sprint(c.Backend.Addrs, c.Port, c.Bind) != "[a:1 b:2] 5 [127.0.0.1 ::1]" {
			t.Errorf("%q: backend %v, port %d, bind %v", args, c.Backend.Addrs, c.Port, c.Bind)
		}
	}
}

func TestATestRunReportsEveryMistakeWithItsPlace(t *testing.T) {
	path := writeConfig(t, strings.Join([]string{
		"# berth",
		"port 99999",
		"prot 7379",
		"bind 127.0.0.1 # only here",
		"save 900 1",
		`timeout "5`,
		"timeout",
		"maxclients ten",
		"loglevel loud",
		"proto-max-bulk-len 1kb",
		"client-output-buffer-limit replica 1mb 1mb 1",
		"private_conn_pool_enabled yes",
		"backend redis://me:hunter2@host:port",
		"backend-password hunter2 hunter2",
		"",
	}, "\n"))
	said := refused(t, []string{"BERTH_LOOPS=-1"}, "-t", path, "--foo", "1", "--shutdown-timeout", "1.5s")
	for _, want := range []string{
		path + ":2: port 99999: argument must be between 0 and 65535 inclusive",
		path + ":3: unknown option prot; did you mean port?",
		path + `:4: bind 127.0.0.1 "#" only here: argument must be an IP address or a host name; it takes addresses, with spaces between them; a comment needs a line of its own`,
		path + ":5: unknown option save: it belongs to the node's configuration; remove the line",
		path + ":6: unbalanced quotes in configuration line",
		path + `:7: timeout: wrong number of arguments; it takes a whole number of seconds from 0 to 2147483647, or one with a suffix (ms s m h d)`,
		path + ":8: maxclients ten: argument couldn't be parsed into an integer; it takes a whole number from 1 to 4294967295",
		path + ":9: loglevel loud: argument(s) must be one of the following: debug, verbose, notice, warning, nothing",
		path + ":10: proto-max-bulk-len 1kb: argument must be between 1048576 and 9223372036854775807 inclusive",
		path + ":11: client-output-buffer-limit replica 1mb 1mb 1: Invalid client class specified in buffer limit configuration; it takes class (normal or pubsub)",
		path + ":12: private_conn_pool_enabled yes: argument must be '0' or '1'",
		path + `:13: backend: an address of a backend URL has no port between 1 and 65535; it takes redis://`,
		path + ":14: backend-password: wrong number of arguments",
		"environment BERTH_LOOPS: loops -1: argument must be between 0 and 1024 inclusive",
		"flag --foo: unknown option foo",
		"flag --shutdown-timeout: shutdown-timeout 1.5s: argument couldn't be parsed into an integer",
		"mistakes in the configuration",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("not reported: %s", want)
		}
	}
	if strings.Contains(said, "hunter2") {
		t.Error("a password is shown")
	}
	if t.Failed() {
		t.Log(said)
	}
}

func TestATestRunOfAGoodFileSaysSo(t *testing.T) {
	var stdout, stderr strings.Builder
	s, exit := Read([]string{"-t", writeConfig(t, "port 7000\n")}, []string{"BERTH_OTHER=1"}, &stdout, &stderr)
	if s != nil || exit != 0 || stdout.String() != "berth: the configuration is valid\n" ||
		stderr.String() != "warning: environment variable BERTH_OTHER is no option of berth\n" {
		t.Errorf("started %v, exit %d, stdout %q, stderr %q", s != nil, exit, stdout.String(), stderr.String())
	}
}

func TestContradictionsNameTheirPlace(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"flag --port: there is nothing to listen on":                                                                 {"--port", "0"},
		"flag --admin-port: admin-port 7379 is the clients' port already; choose another":                            {"--admin-port", "7379"},
		"flag --backend-password-file: the password is given more than once":                                         {"redis://:x@h", "--backend-password-file", secret},
		"flag --backend-user: backend-user is not the user that backend's URL names":                                 {"redis://a:x@h", "--backend-user", "b"},
		"argument: there is no password for the backend's user; give it as BERTH_BACKEND_PASSWORD":                   {"redis://a@h"},
		"flag --backend-password-file: backend-password-file: open /no/such: no such":                                {"--backend-password-file", "/no/such"},
		"configuration file: ***: no such file or directory; a backend is named by its URL, as in redis://host:6379": {"localhost:6379"},
		"configuration file: /dev/zero: it is larger than 1mb, so it is no configuration file":                       {"/dev/zero"},
		"argument other.conf: there is a configuration file already: /dev/null":                                      {"/dev/null", "other.conf"},
		"argument -x: unknown": {"-x"},
	} {
		if said := refused(t, nil, args...); !strings.Contains(said, want) || strings.Contains(said, "hunter2") {
			t.Errorf("berth %q says %q, want %q", args, said, want)
		}
	}
}

func TestUnixSocketAloneIsEnoughToListenOn(t *testing.T) {
	s, _ := configure(t, nil, "--port", "0", "--unixsocket", "/run/berth.sock", "--unixsocketperm", "770")
	if c := s.Load(); c.UnixSocket != "/run/berth.sock" || c.UnixSocketPerm != 0o770 {
		t.Errorf("unixsocket %q, mode %o", c.UnixSocket, c.UnixSocketPerm)
	}
}

func TestThePasswordComesFromURLFileOrEnvironment(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("from file\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		environ        []string
		args           []string
		user, password string
	}{
		{nil, nil, "", ""},
		{nil, []string{"redis://me:from%20url@h"}, "me", "from url"},
		{nil, []string{"redis://:p@ss%2Fword@h:1/3"}, "", "p@ss/word"},
		{nil, []string{"redis://me@h", "--backend-password-file", secret}, "me", "from file"},
		{[]string{"BERTH_BACKEND_PASSWORD=from environment"}, []string{"redis://h", "--backend-user", "me"}, "me", "from environment"},
	} {
		s, _ := configure(t, c.environ, c.args...)
		if got := s.Load().Target(); got.User != c.user || got.Password != c.password {
			t.Errorf("%q %q: user %q, password %q", c.environ, c.args, got.User, got.Password)
		}
	}
}

func TestAKubernetesServiceLinkDoesNotKeepBerthFromStarting(t *testing.T) {
	s, _ := configure(t, []string{"BERTH_PORT=tcp://10.0.0.1:7379", "BERTH_SERVICE_HOST=10.0.0.1", "BERTH_PORT_7379_TCP=tcp://10.0.0.1:7379"})
	if s.Load().Port != 7379 || len(s.Warnings()) != 3 {
		t.Errorf("port %d, warnings %q", s.Load().Port, s.Warnings())
	}
}

func TestHelpAndVersionEndAtOnce(t *testing.T) {
	for _, arg := range []string{"--help", "-h", "--version", "-v"} {
		var stdout, stderr strings.Builder
		s, exit := Read([]string{arg}, nil, &stdout, &stderr)
		if s != nil || exit != 0 || stderr.Len() > 0 || !strings.Contains(stdout.String(), "berth") {
			t.Errorf("%s: started %v, exit %d, stderr %q", arg, s != nil, exit, stderr.String())
		}
	}
	for _, o := range options {
		if !strings.Contains(optionsHelp(), "--"+o.name+" ") {
			t.Errorf("--help does not list %s", o.name)
		}
	}
}

func TestHealthCheckReadsTheConfigurationOfTheBerthThatItAsks(t *testing.T) {
	s, _ := Read([]string{"--healthcheck", "--admin-port", "9380"}, nil, io.Discard, io.Discard)
	if s == nil || !s.AsksHealth() || s.Load().AdminPort != 9380 {
		t.Errorf("%+v", s)
	}
	if s, _ := configure(t, nil); s.AsksHealth() {
		t.Error("it asks without --healthcheck")
	}
}

func TestASecretNeverShowsWhenPrinted(t *testing.T) {
	s, _ := configure(t, nil, "redis://me:hunter2@h")
	c := *s.Load()
	c.BackendPassword, c.FilePassword = "hunter2", "hunter2"
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "backend", c.Backend, "password", c.BackendPassword, "config", c)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "backend", c.Backend, "password", c.BackendPassword, "config", c)
	all := log.String() + fmt.Sprintf("%v %+v %#v %s %q", c, c, c, c.Backend, c.BackendPassword)
	if strings.Contains(all, "hunter2") {
		t.Error(all)
	}
}

func TestTheBackendsURLIsShownWithoutItsPassword(t *testing.T) {
	for raw, want := range map[string]string{
		"":                         "",
		"redis://h":                "redis://h",
		"redis://u@h:1,i:2":        "redis://u@h:1,i:2",
		"redis://u:hunter2@h":      "redis://u:***@h:6379",
		"redis://:hunter2@h/3":     "redis://:***@h:6379/3",
		"unix://u:hunter2@/a?db=4": "unix://u:***@/a?db=4",
		"redis://u:hunter2@h:port": "***",
		"redis://u:a/hunter2@h":    "***",
		"hunter2":                  "***",
	} {
		if got := maskBackendURL(raw); got != want {
			t.Errorf("%s is shown as %s, want %s", raw, got, want)
		}
	}
}

func TestBindAddresses(t *testing.T) {
	for word, want := range map[string]string{"*": "tcp4 0.0.0.0:5 false", "-*": "tcp4 0.0.0.0:5 true", "0.0.0.0": "tcp4 0.0.0.0:5 false", "::*": "tcp6 [::]:5 false",
		"-::1": "tcp6 [::1]:5 true", "127.0.0.1": "tcp4 127.0.0.1:5 false", "localhost": "tcp localhost:5 false", "fe80::1%eth0": "tcp6 [fe80::1%eth0]:5 false"} {
		network, addr, optional := BindAddress(word, 5)
		if got := fmt.Sprint(network, " ", addr, " ", optional); got != want || checkBind(word) != nil {
			t.Errorf("%s: got %s, %v, want %s", word, got, checkBind(word), want)
		}
	}
	for _, word := range []string{"127.0.0.1:5", "[::1]:5", "[::1]", "", "-", "a b", "/run/x", "#", "redis://h"} {
		if checkBind(word) == nil {
			t.Errorf("%q is taken for an address", word)
		}
	}
}

func TestAPasswordOnTheCommandLineIsWarnedOf(t *testing.T) {
	for _, c := range []struct {
		environ, args []string
		warned        bool
	}{
		{nil, []string{"redis://:secret@h"}, true},
		{nil, []string{"--backend", "redis://:secret@h"}, true},
		{nil, []string{"redis://h", "--backend-password", "secret"}, true},
		{nil, []string{"redis://h"}, false},
		{[]string{"BERTH_BACKEND=redis://:secret@h"}, nil, false},
		{[]string{"BERTH_BACKEND_PASSWORD=secret"}, []string{"redis://h"}, false},
		{nil, []string{writeConfig(t, "backend redis://:secret@h\n")}, false},
	} {
		s, _ := configure(t, c.environ, c.args...)
		all := strings.Join(s.Warnings(), "\n")
		if strings.Contains(all, "on the command line") != c.warned || strings.Contains(all, "secret") {
			t.Errorf("%q %q: warnings %q", c.environ, c.args, all)
		}
	}
}

// FuzzNoMistakeRepeatsAPassword mistypes a URL around its password, and gives it to berth in each
// place where a URL may stand.
func FuzzNoMistakeRepeatsAPassword(f *testing.F) {
	const password = "s3cretWord"
	for _, url := range []string{
		"redis://me:%@h:6379/0", "redis://:%@h", "redis://%@h", "redis:/:%@h", "redis//me:%@h", "me:%@h", "%", "-redis://:%@h", "--redis://:%@h",
		"redis://h/%", "redis://h:%", "redis://h?db=%", "redis://h?%", "redis://h#%", "redis://[%]", "unix://%", "unix:///%/", "unix:///a%%zz", "http://:%@h",
		"sentinel://:%@h", "sentinel://h/m/%", "redis://h,:%@g", "redis://me;%@h", "redis://me:% @h", "\"redis://:%@h", "redis:\\\\me:%@h", "backend=redis://:%@h",
		"redis://me:a % b@h", "\xff% 0#",
	} {
		before, after, _ := strings.Cut(url, "%")
		f.Add(before, after)
	}
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, password) || strings.ContainsAny(before+after, "\x00") {
			return
		}
		url := before + password + after
		if !strings.ContainsAny(url, "@:?#%&") && !strings.Contains(url, "//") {
			return // it is a plain word or path: nothing shows that it was to be a URL
		}
		dir := t.TempDir()
		file := filepath.Join(dir, "berth.conf")
		if err := os.WriteFile(file, []byte("backend "+url+"\nbackend"+url+"\n"+url+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{
			{url}, {"-t", url}, {"--backend", url}, {"--backend=" + url}, {"--" + url}, {"-" + url}, {"--backend-url", url}, {file, url}, {url, file}, {url, url}, {file},
			{"--bind", url}, {"--port", url},
		} {
			var stdout, stderr strings.Builder
			s, _ := Read(args, nil, &stdout, &stderr)
			all := stdout.String() + stderr.String()
			if s != nil {
				all += strings.Join(s.Warnings(), "\n")
			}
			if strings.Contains(all, password) {
				t.Errorf("berth %q says %q", args, all)
			}
		}
		var stdout, stderr strings.Builder
		Read(nil, []string{"BERTH_BACKEND=" + url}, &stdout, &stderr)
		if all := stdout.String() + stderr.String(); strings.Contains(all, password) {
			t.Errorf("BERTH_BACKEND=%q says %q", url, all)
		}
	})
}

func TestASecondBackendIsRefused(t *testing.T) {
	const why = "there is a backend already; the nodes of one Cluster are named in one URL, with commas between them: redis://a:7001,b:7002"
	for _, c := range []struct {
		where string
		args  []string
	}{
		{"argument: backend", []string{"redis://a:1", "redis://:hunter2@b:2"}},
		{"argument: backend", []string{"redis://a:1", "redis://a:1"}},
		{"argument: backend", []string{"--backend", "redis://a:1", "--port", "5", "unix:///b"}},
		{"flag --backend: backend", []string{"redis://a:1", "--backend=redis://:hunter2@b:2"}},
		{".conf:2: backend", []string{writeConfig(t, "backend redis://a:1\nbackend redis://:hunter2@b:2\n")}},
	} {
		if said := refused(t, nil, c.args...); !strings.Contains(said, c.where) || !strings.Contains(said, why) || strings.Contains(said, "hunter2") {
			t.Errorf("%q: %s", c.args, said)
		}
	}
	path := writeConfig(t, "backend redis://a:1\n")
	if s, _ := configure(t, []string{"BERTH_BACKEND=redis://b:2"}, path, "redis://c:3"); s.Load().Backend.Addrs[0] != "c:3" {
		t.Errorf("the argument does not override the environment and the file: %v", s.Load().Backend.Addrs)
	}
}
