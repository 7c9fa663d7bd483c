package config

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestATestRunTriesWhatTheOptionsName(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, takenPort, _ := net.SplitHostPort(taken.Addr().String())
	path := writeConfig(t, strings.Join([]string{
		"bind 127.0.0.1 192.0.2.1",
		"admin-bind 198.51.100.7",
		"unixsocket " + file,
		"listen 192.0.2.3:7380",
		"listen unix:" + dir + "/none/sock",
		"logfile " + dir + "/none/log",
	}, "\n"))
	said := refused(t, nil, "-t", path)
	for _, want := range []string{
		":1: bind: this machine does not have the address 192.0.2.1; with a - before it berth does without",
		":2: admin-bind: this machine does not have the address 198.51.100.7",
		":3: unixsocket: " + file + ": a file that is no socket is in the way",
		": listen: this machine does not have the address 192.0.2.3",
		":5: listen: " + dir + "/none: no such file or directory",
		":6: logfile: open " + dir + "/none/log: no such file or directory",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("not reported: %s\n%s", want, said)
		}
	}
	log := filepath.Join(dir, "log")
	for _, args := range [][]string{
		{"--bind", "127.0.0.1", "-192.0.2.1", "::*", "localhost"}, {"--port", takenPort}, {"--port", "80"},
		{"--logfile", log}, {"--unixsocket", dir + "/sock"}, {"--listen", "-192.0.2.3:7380"},
		{"--port", "0", "--bind", "192.0.2.1", "--unixsocket", dir + "/sock", "--admin-port", "0", "--admin-bind", "192.0.2.1"},
	} {
		var stdout, stderr strings.Builder
		if _, exit := Read(append([]string{"-t"}, args...), nil, &stdout, &stderr); exit != 0 {
			t.Errorf("%q: %s", args, stderr.String())
		}
	}
	if left, _ := filepath.Glob(dir + "/*"); len(left) != 1 {
		t.Errorf("the test run leaves %q", left)
	}
}
