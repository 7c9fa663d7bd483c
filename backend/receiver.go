package backend

import (
	"errors"
	"fmt"
	"strings"

	"github.com/berth-proxy/berth/codec"
)

// Receiver is the one to whom a pipe owes replies. Its methods run on the pipe's loop, never inside
// Send.
type Receiver interface {
	// Reply delivers one whole reply. sent is the request that it answers, as it was given to Send.
	// more is how many replies the same Send is still owed. Both slices are valid during the call
	// only.
	Reply(reply, sent []byte, more int)
	// Lost reports that the replies which the same Send is still owed will not come. sent is as in
	// Reply.
	Lost(err *LostError, sent []byte)
}

// Streamer is a Receiver that may take a long reply in parts, as they arrive.
type Streamer interface {
	Receiver
	// Part offers the next bytes of a reply that has begun, valid during the call. If Part returns
	// true, the bytes that follow come the same way and the last ones as Reply, or Lost reports
	// that there is no end. If Part returns false, the same bytes are offered again together with
	// the next ones. sent is as in Reply. left is how many bytes are known to be missing after the
	// part. A reply that begins with the first byte of a push is never offered. An error is offered
	// when it is longer than any that berth acts on.
	Part(part, sent []byte, left int) bool
}

// StreamFrom is how many bytes a reply must be known to have before it is offered in parts. For a
// shorter reply the many small writes cost more than gathering it.
const StreamFrom = 1 << 20

// Streamable reports whether a reply of which this much has come may be handed out before its end is
// seen. need is how many bytes are known to be missing.
func Streamable(begun []byte, need int) bool {
	switch begun[0] {
	case '>', '|', '!':
		return false
	case '-': // it may be a redirect, which is short
		return len(begun) >= StreamFrom
	}
	return len(begun)+need >= StreamFrom
}

// MaxLine is how many bytes of a line are kept that cannot be handed out in parts. The length of a
// line is not known before its end, and a script makes it as long as it likes. The rest of a longer
// line is dropped as it comes, and its receiver gets CutLine instead: neither the memory nor the
// connection of others is the price.
const MaxLine = 16 << 20

// CutLine is the reply instead of a line that was too long to be kept.
var CutLine = codec.AppendError(nil, "ERR berth: the reply has a line of more than 16 MB")

// Cuts reports whether a reply that has begun is, or has in it, a line that is too long to be kept.
func Cuts(begun []byte, s *codec.ReplyScanner) bool {
	return len(begun) > MaxLine && s.Line(begun) > MaxLine && begun[0] != '>'
}

// MaxHandshake is how many bytes a node may answer to a handshake or to a PING.
const MaxHandshake = 256 << 10

// ErrHandshake says that a node answered more than MaxHandshake.
var ErrHandshake = errors.New("the node's answer to the handshake is too long")

// LostError is why a reply will not come.
type LostError struct {
	Addr    string // of the node
	Sent    bool   // the node may have executed the request
	Begun   bool   // of a lease: a reply had begun to arrive
	Refusal string // the node's own words if it refused the connection, its AUTH or its SELECT; else ""
	Login   bool   // the Refusal says that the node accepts no password that is known for the user
	Err     error  // the cause if there is no Refusal
}

func (e *LostError) Error() string {
	if e.Refusal != "" {
		return fmt.Sprintf("%s refused the connection: %s", e.Addr, e.Refusal)
	}
	return fmt.Sprintf("connection to %s: %v", e.Addr, e.Err)
}

func (e *LostError) Unwrap() error { return e.Err }

// Timeout reports whether berth gave up the reply. The connection is still there then.
func (e *LostError) Timeout() bool { return errors.Is(e.Err, ErrTimeout) }

// IsBusy reports whether the node refused the connection because it runs a script.
func (e *LostError) IsBusy() bool { return strings.HasPrefix(e.Refusal, "BUSY ") }

// Why a connection ended, or why berth gave up a reply.
var (
	ErrHungUp   = errors.New("closed by the node")
	ErrUnowed   = errors.New("the node sent a reply that no request is owed")
	ErrPush     = errors.New("the node sent a push on a shared connection")
	ErrTimeout  = errors.New("no reply within backend-timeout-ms")
	ErrRetired  = errors.New("no longer used")
	ErrShutdown = errors.New("berth is shutting down")
)

// AsLost returns err, with which a lease from addr was lost, as a LostError. Mostly it is one.
func AsLost(addr string, err error) *LostError {
	if lost, ok := errors.AsType[*LostError](err); ok {
		return lost
	}
	return &LostError{Addr: addr, Sent: true, Err: err}
}

// AskingCommand must be sent before a request for a slot that is being moved to the node.
var AskingCommand = codec.AppendCommandString(nil, "ASKING")
