package nodes

import (
	"errors"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/backend"
)

// Target is what a backend's URL says: where the nodes are, as which user berth asks its own
// questions, and in which database clients begin.
type Target struct {
	TLS      bool     // nodes and Sentinels speak TLS
	Addrs    []string // "host:port", or the path of a unix socket; several: a Cluster's seeds, or Sentinels
	Master   string   // the name under which the Sentinels at Addrs watch a primary; "": Addrs are nodes
	User     string   // "": the default user
	Password string   // from the URL, a file or the environment
	DB       int
}

// The ports of nodes and Sentinels whose address has none.
const (
	defaultPort         = "6379"
	defaultSentinelPort = "26379"
)

var errFragment = errors.New("a backend URL has no #fragment")

// ParseTarget reads the address of a backend:
//
//	redis://[[user]:password@]host[:6379][/db]
//	redis://[[user]:password@]host:7001,host:7002,…     seeds of a Redis Cluster
//	rediss://…, rediss+sentinel://…     the same over TLS
//	sentinel://[[user]:password@]host[:26379],host,…/name[/db]     the primary that Sentinels watch under that name
//	unix://[[user]:password@]/path/to.sock[?db=n]
//
// User and password are percent-decoded. An IPv6 address is written in brackets. No error contains a
// part of raw: in a mistyped URL the password may be anywhere.
func ParseTarget(raw string) (Target, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return Target{}, errors.New("a backend is given as redis://host:port or unix:///path.sock; there is no :// in it")
	}
	var t Target
	kind := strings.ToLower(scheme)
	switch kind {
	case "redis", "sentinel", "unix":
	case "redis+sentinel":
		kind = "sentinel"
	case "rediss":
		t.TLS = true
	case "rediss+sentinel":
		kind, t.TLS = "sentinel", true
	default:
		return Target{}, errors.New("a backend begins with redis://, rediss:// (TLS), sentinel://, rediss+sentinel:// or unix://")
	}
	rest, err := t.cutUser(rest)
	if err != nil {
		return Target{}, err
	}
	where, query, _ := strings.Cut(rest, "?")
	switch kind {
	case "unix":
		err = t.setSocket(where)
	case "sentinel":
		err = t.setSentinels(where)
	default:
		err = t.setHosts(where, defaultPort)
	}
	if err != nil {
		return Target{}, err
	}
	if err := t.setOptions(query); err != nil {
		return Target{}, err
	}
	return t, nil
}

// cutUser takes "user:password@" off the front of what follows the scheme.
func (t *Target) cutUser(rest string) (string, error) {
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	at := strings.LastIndexByte(rest[:end], '@')
	if at < 0 {
		if strings.Contains(rest[end:], "@") {
			return "", errors.New("a backend URL has an @ after its first / ? or #: " +
				"in a password write / as %2F, ? as %3F, # as %23, @ as %40")
		}
		return rest, nil
	}
	user, password, _ := strings.Cut(rest[:at], ":")
	var errUser, errPassword error
	t.User, errUser = url.PathUnescape(user)
	t.Password, errPassword = url.PathUnescape(password)
	if errUser != nil || errPassword != nil {
		return "", errors.New("a backend URL has a % without two hex digits in its user or password: write % as %25")
	}
	return rest[at+1:], nil
}

// setSocket sets the path of a unix socket.
func (t *Target) setSocket(path string) error {
	if !strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") {
		return errors.New("a unix:// URL names no socket: write unix:///path/to.sock")
	}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return errors.New("the path of a unix:// URL has a % without two hex digits: write % as %25")
	}
	t.Addrs = []string{decoded}
	return nil
}

// setHosts sets the addresses in "host:port,host:port/db".
func (t *Target) setHosts(where, port string) error {
	if strings.Contains(where, "#") {
		return errFragment
	}
	hosts, db, _ := strings.Cut(where, "/")
	if err := t.setDB(db); err != nil {
		return err
	}
	for host := range strings.SplitSeq(hosts, ",") {
		addr, err := hostPort(strings.TrimSpace(host), port)
		if err != nil {
			return err
		}
		t.Addrs = append(t.Addrs, addr)
	}
	return nil
}

// setSentinels sets the addresses, and the name of the primary, in "host:port,host:port/name/db".
func (t *Target) setSentinels(where string) error {
	if strings.Contains(where, "#") {
		return errFragment
	}
	hosts, path, _ := strings.Cut(where, "/")
	name, db, _ := strings.Cut(path, "/")
	master, err := url.PathUnescape(name)
	if err != nil || master == "" {
		return errors.New("the addresses of Sentinels must be followed by the name under which they watch the primary: " +
			"sentinel://host:26379,host:26379/mymaster")
	}
	t.Master = master
	return t.setHosts(hosts+"/"+db, defaultSentinelPort)
}

// hostPort checks an address of a URL, and adds the port if there is none.
func hostPort(s, defaultPort string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		// It has no port, or is malformed: with a port added it must be in order.
		host, port, err = net.SplitHostPort(s + ":" + defaultPort)
	}
	switch {
	case err != nil:
		return "", errors.New("an address of a backend URL is not host:port; an IPv6 address is written in brackets: [::1]:6379")
	case host == "" || strings.ContainsAny(host, " \t[]@%\\"):
		return "", errors.New("an address of a backend URL names no host")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", errors.New("an address of a backend URL has no port between 1 and 65535")
	}
	return net.JoinHostPort(host, port), nil
}

// setDB sets the database; "" is database 0.
func (t *Target) setDB(s string) error {
	if s == "" {
		return nil
	}
	db, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return errors.New("what a backend URL names is not the number of a database")
	}
	t.DB = int(db)
	return nil
}

// setOptions reads what follows the '?'.
func (t *Target) setOptions(query string) error {
	for option := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(option, "=")
		switch name {
		case "":
		case "db":
			if err := t.setDB(value); err != nil {
				return err
			}
		default:
			return errors.New("a backend URL has the option db only")
		}
	}
	return nil
}

// Socket reports whether the target is a unix socket.
func (t Target) Socket() bool { return len(t.Addrs) == 1 && backend.Network(t.Addrs[0]) == "unix" }

// authenticates reports whether berth's own questions begin with AUTH.
func (t Target) authenticates() bool { return t.User != "" || t.Password != "" }

// String returns the URL, with three stars for the password.
func (t Target) String() string {
	var b strings.Builder
	switch {
	case t.Socket():
		b.WriteString("unix://")
	case t.Master != "" && t.TLS:
		b.WriteString("rediss+sentinel://")
	case t.Master != "":
		b.WriteString("sentinel://")
	case t.TLS:
		b.WriteString("rediss://")
	default:
		b.WriteString("redis://")
	}
	if t.authenticates() {
		b.WriteString(url.PathEscape(t.User))
		if t.Password != "" {
			b.WriteString(":***")
		}
		b.WriteByte('@')
	}
	b.WriteString(strings.Join(t.Addrs, ","))
	if t.Master != "" {
		b.WriteString("/" + url.PathEscape(t.Master))
	}
	if t.DB > 0 {
		if t.Socket() {
			b.WriteString("?db=")
		} else {
			b.WriteByte('/')
		}
		b.WriteString(strconv.Itoa(t.DB))
	}
	return b.String()
}

// GoString keeps %#v from showing the password.
func (t Target) GoString() string { return t.String() }

// LogValue keeps structured logs from showing the password.
func (t Target) LogValue() slog.Value { return slog.StringValue(t.String()) }
