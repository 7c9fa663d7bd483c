package nodes

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// scriptedNode answers what its script says, byte for byte, and keeps count.
type scriptedNode struct {
	listener net.Listener
	script   func(command string) string // "cluster info" → raw reply; "" → no reply at all

	mu     sync.Mutex // guards what follows
	asked  []string
	infos  []time.Time // when INFO was asked: once a round
	closed chan struct{}
}

func startScriptedNode(t *testing.T, script func(command string) string) *scriptedNode {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scriptedNode{listener: l, script: script, closed: make(chan struct{})}
	var conns sync.WaitGroup
	go func() {
		defer close(s.closed)
		for {
			c, err := l.Accept()
			if err != nil {
				conns.Wait()
				return
			}
			conns.Add(1)
			go func() {
				defer conns.Done()
				s.serve(c)
			}()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-s.closed
	})
	return s
}

func (s *scriptedNode) addr() string { return s.listener.Addr().String() }

func (s *scriptedNode) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		command, err := readCommand(in)
		if err != nil {
			return
		}
		if command == "info server" { // the script says all of INFO at once
			command = "info"
		}
		s.mu.Lock()
		s.asked = append(s.asked, command)
		if command == "info" {
			s.infos = append(s.infos, time.Now())
		}
		s.mu.Unlock()
		// In two pieces, so that no reply comes whole.
		reply := s.script(command)
		if strings.HasPrefix(command, "info ") && !strings.HasPrefix(reply, "$") { // another section
			reply = bulk("")
		}
		half := len(reply) / 2
		for _, piece := range []string{reply[:half], reply[half:]} {
			if _, err := io.WriteString(c, piece); err != nil {
				return
			}
		}
	}
}

// readCommand reads a multibulk request and returns its words in lower case.
func readCommand(in *bufio.Reader) (string, error) {
	number := func() (int, error) {
		line, err := in.ReadString('\n')
		if err != nil || len(line) < 2 {
			return 0, fmt.Errorf("%q: %v", line, err)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number()
	if err != nil {
		return "", err
	}
	words := make([]string, n)
	for i := range words {
		size, err := number()
		if err != nil {
			return "", err
		}
		b := make([]byte, size+2)
		if _, err := io.ReadFull(in, b); err != nil {
			return "", err
		}
		words[i] = string(b[:size])
	}
	return strings.ToLower(strings.Join(words, " ")), nil
}

// rounds is when each round asked for INFO.
func (s *scriptedNode) rounds() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]time.Time(nil), s.infos...)
}

func bulk(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }

// standaloneScript is the script of a single node of some version.
func standaloneScript(version string) func(string) string {
	return func(command string) string {
		switch command {
		case "ping":
			return "+PONG\r\n"
		case "info":
			return bulk("# Server\r\nredis_version:" + version + "\r\nredis_mode:standalone\r\n# Replication\r\nrole:master\r\n")
		case "command":
			return "*0\r\n"
		}
		return "-ERR unknown command\r\n"
	}
}
