package nodes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/berth-proxy/berth/backend"
	"github.com/berth-proxy/berth/codec"
)

// Control is a connection on which berth asks a node its own questions: one at a time, in RESP2,
// blocking. No command of a client travels on it.
//
// Owned by one goroutine.
type Control struct {
	addr    string
	conn    net.Conn
	timeout time.Duration
	release func() bool // stops waiting for the end of ctx
	ctx     context.Context
	naming  *backend.Naming // nil: the connection has its name
}

// Bounds of what a node may answer. A Value takes some 100 bytes for each element of a reply, so
// the number of lines is bounded as well; codec bounds how deep elements lie. Nothing that is asked
// for has a client's words in it, so no client can make a node's answer longer.
const (
	maxControlReply = 1 << 20  // bytes
	maxLongReply    = 16 << 20 // of CLUSTER SHARDS, SLOTS and NODES, and of COMMAND
	maxReplyLines   = 1 << 19
	maxErrorText    = 512 // bytes of an error that are kept
)

var (
	errControlReply  = errors.New("the answer is too large")
	errControlUnowed = errors.New("more was answered than asked")
)

// ReplyError is an error reply to one of berth's own questions.
type ReplyError struct {
	Addr    string
	Command string // the first word only: those of AUTH are secret
	Text    string // the node's words: "NOAUTH Authentication required."
}

func (e *ReplyError) Error() string {
	return fmt.Sprintf("%s answered %s: %s", e.Addr, e.Command, e.Text)
}

// DialControl connects to a node. The settings' timeout bounds the dial, and later each question. The
// end of ctx closes the connection.
func DialControl(ctx context.Context, addr string, settings *Settings) (*Control, error) {
	timeout := settings.DialTimeout()
	conn, err := settings.Dialer.Connect(ctx, addr, timeout)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, backend.DialError(err))
	}
	c := &Control{addr: addr, conn: conn, timeout: timeout, ctx: ctx, naming: settings.Naming}
	c.release = context.AfterFunc(ctx, func() { _ = conn.Close() })
	return c, nil
}

// Close closes the connection.
func (c *Control) Close() {
	c.release()
	_ = c.conn.Close()
}

// Auth authenticates as the target's user, with the credentials that berth was given for its own
// questions. It does nothing if there are none.
func (c *Control) Auth(t Target) error {
	var err error
	switch {
	case !t.authenticates():
	case t.User == "":
		_, err = c.Do("AUTH", t.Password)
	default:
		_, err = c.Do("AUTH", t.User, t.Password)
	}
	return err
}

// Do sends a command and returns the reply. It returns an error reply as a *ReplyError.
func (c *Control) Do(args ...string) (codec.Value, error) {
	raw, err := c.ask(maxControlReply, args)
	if err != nil {
		return codec.Value{}, err
	}
	v, err := codec.ParseValue(raw)
	if err != nil {
		return codec.Value{}, c.fail(args[0], err)
	}
	return v, nil
}

// DoRaw is Do, but returns the bytes of the reply, which may be long.
func (c *Control) DoRaw(args ...string) ([]byte, error) { return c.ask(maxLongReply, args) }

// ask sends a command and returns a reply of at most so many bytes.
func (c *Control) ask(most int, args []string) ([]byte, error) {
	if err := c.conn.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return nil, c.fail(args[0], err)
	}
	request, before, after := c.named(args)
	if _, err := c.conn.Write(request); err != nil {
		return nil, c.fail(args[0], err)
	}
	raw, err := c.read(most, before, after)
	if err != nil {
		return nil, c.fail(args[0], err)
	}
	if raw[0] == '-' {
		text := raw[1 : len(raw)-2]
		return nil, &ReplyError{Addr: c.addr, Command: args[0], Text: string(text[:min(len(text), maxErrorText)])}
	}
	c.naming = nil
	return raw, nil
}

// named returns a command, and what names the connection as long as no command has succeeded: before it, or
// after AUTH, without which a node may refuse it. before and after are how many replies come beside its own.
func (c *Control) named(args []string) (request []byte, before, after int) {
	isAuth := args[0] == "AUTH"
	if !isAuth {
		request, before = c.naming.Append(nil, "control")
	}
	request = codec.AppendCommandString(request, args...)
	if isAuth {
		request, after = c.naming.Append(request, "control")
	}
	return request, before, after
}

// Await returns the next message on a channel that was subscribed to. Two messages in one read are
// an error, after which the caller has to ask instead.
func (c *Control) Await(within time.Duration) (codec.Value, error) {
	if err := c.conn.SetDeadline(time.Now().Add(within)); err != nil {
		return codec.Value{}, c.fail("a message", err)
	}
	raw, err := c.read(maxControlReply, 0, 0)
	if err != nil {
		return codec.Value{}, c.fail("a message", err)
	}
	return codec.ParseValue(raw)
}

// read returns the bytes of one reply, which are at most so many, and drops replies that come before and
// after it.
func (c *Control) read(most, before, after int) (reply []byte, err error) {
	var scanner codec.ReplyScanner
	buf := make([]byte, 0, 4<<10)
	for taken, replies := 0, 0; ; {
		if len(buf) == cap(buf) {
			buf = append(buf, make([]byte, max(len(buf), 4<<10))...)[:len(buf)]
		}
		n, err := c.conn.Read(buf[len(buf):cap(buf)])
		if n == 0 && err != nil {
			return nil, err
		}
		if buf = buf[:len(buf)+n]; len(buf) > most {
			return nil, errControlReply
		}
		for replies <= before+after {
			whole, err := scanner.Scan(buf[taken:])
			if err != nil {
				return nil, err
			}
			if whole == 0 {
				break
			}
			if replies == before {
				reply = buf[taken : taken+whole]
			}
			taken += whole
			replies++
		}
		switch {
		case replies <= before+after:
		case taken < len(buf):
			return nil, errControlUnowed
		case bytes.Count(reply, []byte("\n")) > maxReplyLines:
			return nil, errControlReply
		default:
			return reply, nil
		}
	}
}

// fail adds the node and the question to err. If ctx has ended, the reason for that replaces err.
func (c *Control) fail(command string, err error) error {
	if cause := context.Cause(c.ctx); cause != nil {
		err = cause
	}
	return fmt.Errorf("%s asked for %s: %w", c.addr, command, backend.DialError(err))
}

// Info returns the fields of one section of INFO.
func (c *Control) Info(section string) (map[string]string, error) {
	v, err := c.Do("INFO", section)
	if err != nil {
		return nil, err
	}
	return infoFields(v.Text()), nil
}
