package backend

import (
	"strings"
	"sync/atomic"

	"github.com/berth-proxy/berth/codec"
)

// Naming is what berth says of itself on its connections to nodes, so that a node's CLIENT LIST explains
// itself: berth:HOST:pipe. It travels with what each connection begins with, and a node's refusal
// means nothing. nil says nothing. Safe for any goroutine.
type Naming struct {
	host, version string
	info          atomic.Bool // the nodes know CLIENT SETINFO
}

// maxHost is how many bytes of the host's name are used.
const maxHost = 64

// NewNaming returns that of a berth of a version, on a host.
func NewNaming(host, version string) *Naming {
	host = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == ':' { // SETNAME takes no blanks
			return '-'
		}
		return r
	}, host)
	return &Naming{host: host[:min(len(host), maxHost)], version: version}
}

// KnowsInfo enters whether the nodes know CLIENT SETINFO, as since Redis 7.2.
func (n *Naming) KnowsInfo(known bool) {
	if n != nil {
		n.info.Store(known)
	}
}

// Name is that of a kind of connection; "": none.
func (n *Naming) Name(kind string) string {
	if n == nil || kind == "" {
		return ""
	}
	return "berth:" + n.host + ":" + kind
}

// Append appends the commands that name a connection of a kind, and returns how many replies they bring.
func (n *Naming) Append(b []byte, kind string) (_ []byte, replies int) {
	name := n.Name(kind)
	if name == "" {
		return b, 0
	}
	b = codec.AppendCommandString(b, "CLIENT", "SETNAME", name)
	if !n.info.Load() {
		return b, 1
	}
	b = codec.AppendCommandString(b, "CLIENT", "SETINFO", "LIB-NAME", "berth")
	return codec.AppendCommandString(b, "CLIENT", "SETINFO", "LIB-VER", n.version), 3
}
