//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/berth-proxy/berth/codec"
)

// control is a connection for bench's own commands, which are not measured.
type control struct {
	net  net.Conn
	scan codec.ReplyScanner
	in   []byte
}

func dialControl(addr string) (*control, error) {
	c, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return nil, err
	}
	return &control{net: c}, nil
}

func (c *control) close() { _ = c.net.Close() }

// do sends one command and returns its reply. An error reply is a reply.
func (c *control) do(args ...string) (codec.Value, error) {
	if err := c.send(codec.AppendCommandString(nil, args...)); err != nil {
		return codec.Value{}, err
	}
	return c.receive()
}

// send writes requests that are already encoded.
func (c *control) send(b []byte) error {
	_ = c.net.SetDeadline(time.Now().Add(10 * time.Second))
	_, err := c.net.Write(b)
	return err
}

// receive reads one reply.
func (c *control) receive() (codec.Value, error) {
	var chunk [16 << 10]byte
	for {
		n, err := c.scan.Scan(c.in)
		if err != nil {
			return codec.Value{}, err
		}
		if n > 0 {
			v, err := codec.ParseValue(append([]byte(nil), c.in[:n]...))
			c.in = c.in[n:]
			return v, err
		}
		m, err := c.net.Read(chunk[:])
		if err != nil {
			return codec.Value{}, err
		}
		c.in = append(c.in, chunk[:m]...)
	}
}

// must is do, but it returns an error reply as an error.
func (c *control) must(args ...string) (codec.Value, error) {
	v, err := c.do(args...)
	if err == nil && v.IsError() {
		err = errors.New(string(v.Str))
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w", c.net.RemoteAddr(), strings.Join(args, " "), err)
	}
	return v, err
}

// info returns one field of INFO as a number.
func (c *control) info(section, field string) (int, error) {
	v, err := c.must("INFO", section)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(v.Str)) {
		if text, found := strings.CutPrefix(line, field+":"); found {
			return strconv.Atoi(strings.TrimSpace(text))
		}
	}
	return 0, fmt.Errorf("INFO %s has no %s", section, field)
}
