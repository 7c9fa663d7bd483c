package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/berth-proxy/berth/router"
)

// Door is where clients come in, and what holds for them.
type Door struct {
	Place
	Optional      bool // the machine may lack the address
	TLS           bool
	ReadFrom      *router.ReadFrom // nil: Config.ReadFrom says
	ProxyNetworks []netip.Prefix   // nil: Config.ProxyNetworks says; empty: none
	NoCache       bool             // clients' reads always go to a node
	MaxClients    int              // 0: Config.MaxClients alone says
	Perm          os.FileMode      // of a unix socket; 0: what the umask leaves

	host string // as listen has it
	port int    // 0: listen names none
}

// Place is a network and an address in it, for net.Listen.
type Place struct{ Network, Addr string }

// Doors returns all doors: those of bind and port, of bind and tls-port, of unixsocket, and of
// listen. An error says why they cannot be.
func (c *Config) Doors() (doors []Door, err error) {
	for _, p := range []struct {
		port int
		tls  bool
	}{{c.Port, false}, {c.TLSPort, true}} {
		for _, word := range c.Bind {
			if p.port != 0 {
				doors = append(doors, Door{TLS: p.tls}.at(word, p.port))
			}
		}
	}
	if c.UnixSocket != "" {
		doors = append(doors, Door{Place: Place{"unix", c.UnixSocket}, Perm: c.UnixSocketPerm})
	}
	for _, d := range c.Listen {
		if d.port == 0 && d.host != "" {
			port, option := c.Port, "port"
			if d.TLS {
				port, option = c.TLSPort, "tls-port"
			}
			if port == 0 {
				return doors, fmt.Errorf("the address %s is given without a port, and %s is 0", d.host, option)
			}
			d = d.at(d.host, port)
		}
		doors = append(doors, d)
	}
	seen := make(map[Place]bool)
	for _, d := range doors {
		if seen[d.Place] {
			return doors, fmt.Errorf("the address %s is given twice", d.Addr)
		}
		seen[d.Place] = true
	}
	return doors, nil
}

// SpeaksTLS reports whether clients of the door speak TLS.
func (d Door) SpeaksTLS() bool { return d.TLS }

// at returns the door at a word of bind and a port.
func (d Door) at(word string, port int) Door {
	var optional bool
	d.Network, d.Addr, optional = BindAddress(word, port)
	d.Optional = d.Optional || optional
	return d
}

// maxDoors is how many doors listen may name: each takes a descriptor and some memory.
const maxDoors = 1000

var errManyDoors = fullError(fmt.Sprintf("there may be %d addresses at most", maxDoors))

// doorsValue is any number of doors. A word without "=" is the address of the next one, and so is
// any word that begins with "unix:".
type doorsValue struct {
	at func(*Config) *[]Door
}

const unixPrefix = "unix:"

func isAddress(word string) bool {
	return strings.HasPrefix(word, unixPrefix) || !strings.Contains(word, "=")
}

func (v doorsValue) set(c *Config, words []string) error {
	next := *c
	*v.at(&next) = nil
	err := v.add(&next, words)
	if err == nil {
		*v.at(c) = *v.at(&next)
	}
	return err
}

// add adds doors to those that are there.
func (v doorsValue) add(c *Config, words []string) error {
	switch {
	case len(words) == 0:
		return errWordCount
	case len(words) == 1 && words[0] == "":
		return nil
	}
	doors := slices.Clip(*v.at(c))
	for alone := true; len(words) > 0; {
		n := 1
		for n < len(words) && !isAddress(words[n]) {
			n++
		}
		alone = alone && n == len(words)
		d, err := parseDoor(words[:n])
		switch {
		case err != nil && alone:
			return err
		case err != nil:
			return fmt.Errorf("address %d: %w", len(doors)+1, err)
		case len(doors) == maxDoors:
			return errManyDoors
		}
		doors, words = append(doors, d), words[n:]
	}
	*v.at(c) = doors
	return nil
}

func (v doorsValue) text(c *Config) string {
	return strings.Join(v.lines(c), " ")
}

func (v doorsValue) lines(c *Config) (lines []string) {
	for _, d := range *v.at(c) {
		lines = append(lines, quoteWords(d.words()))
	}
	return lines
}

func (v doorsValue) many() bool   { return true }
func (v doorsValue) unit() string { return "address, key=value" }
func (v doorsValue) wants() string {
	return "ADDRESS:PORT, [ADDRESS]:PORT or unix:/path, and after it what holds there: tls=yes, read-from=prefer-replica, proxy-protocol=10.0.0.0/8,10.1.0.0/16, maxclients=500, perm=770"
}

// parseDoor reads an address and the terms after it.
func parseDoor(words []string) (d Door, err error) {
	if path, isPath := strings.CutPrefix(words[0], unixPrefix); isPath {
		err = d.setPath(path)
	} else {
		err = d.setAddress(words[0])
	}
	if err != nil {
		return d, err
	}
	seen := make(map[string]bool)
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		if key = strings.ToLower(key); seen[key] {
			return d, fullError("a key stands there twice")
		}
		seen[key] = true
		if err := d.setTerm(key, value); err != nil {
			return d, err
		}
	}
	return d, nil
}

// setPath reads the path of a unix socket. Blanks and quotes would have to be written in quotes that
// are in quotes.
func (d *Door) setPath(path string) error {
	switch {
	case !filepath.IsAbs(path):
		return fullError("the path of a unix socket must begin with /")
	case strings.ContainsAny(path, " \t\r\n\v\f\x00\"'\\"):
		return fullError("the path of a unix socket must have no blanks, quotes and backslashes")
	}
	d.Place = Place{"unix", filepath.Clean(path)}
	return checkSocketPath(d.Addr)
}

var (
	errAddress  = errors.New("argument must begin with an address")
	errNoPort   = fullError("a name must have a port; only an IP address may be without one")
	errBareIPv6 = fullError("an IPv6 address must stand in brackets, as in [::1]:7390")
)

// setAddress reads "host:port", and an IP address alone, whose place Doors finds.
func (d *Door) setAddress(word string) error {
	host, port := strings.TrimPrefix(word, "-"), ""
	d.Optional = host != word
	bracket := strings.HasPrefix(host, "[")
	switch colon := strings.LastIndexByte(host, ':'); {
	case bracket && strings.HasSuffix(host, "]"):
		host = host[1 : len(host)-1]
	case colon >= 0:
		var err error
		if host, port, err = net.SplitHostPort(host); err != nil {
			if !bracket && strings.Count(word, ":") > 1 && !strings.Contains(word, "/") {
				return errBareIPv6
			}
			return errAddress
		}
		if d.port, err = parseInteger(port); err != nil || d.port < 1 || d.port > 65535 {
			return fullError("the port must be a number between 1 and 65535")
		}
	}
	host, again := bindHost(host)
	if again || checkBind(host) != nil || strings.Contains(host, ":") != bracket {
		return errAddress
	}
	d.host = strings.ToLower(host)
	a, err := netip.ParseAddr(host)
	if err == nil {
		d.host = a.String()
	} else if d.port == 0 { // it may be a key without a value
		return errNoPort
	}
	if d.port != 0 {
		*d = d.at(d.host, d.port)
	}
	return nil
}

// setTerm reads what stands after an address.
func (d *Door) setTerm(key, value string) error {
	switch key {
	case "tls":
		if !strings.EqualFold(value, "yes") && !strings.EqualFold(value, "no") {
			return fullError("tls must be yes or no")
		}
		d.TLS = strings.EqualFold(value, "yes")
	case "read-from":
		i := slices.Index(router.ReadFromNames, strings.ToLower(value))
		if i < 0 {
			return fullError("read-from must be one of: " + strings.Join(router.ReadFromNames, ", "))
		}
		from := router.ReadFrom(i)
		d.ReadFrom = &from
	case "cache":
		if !strings.EqualFold(value, "no") && !strings.EqualFold(value, "yes") {
			return fullError("cache must be yes or no")
		}
		d.NoCache = strings.EqualFold(value, "no")
	case "proxy-protocol":
		return d.setNetworks(value)
	case "maxclients":
		n, err := parseInteger(value)
		if err != nil || n < 1 || n > maxUint32 {
			return fullError(fmt.Sprintf("maxclients must be a number between 1 and %d", maxUint32))
		}
		d.MaxClients = n
	case "perm":
		n, err := strconv.ParseUint(value, 8, 32)
		if err != nil || n < 1 || n > 0o777 {
			return fullError("perm must be an octal file mode between 1 and 777")
		}
		if d.Network != "unix" {
			return fullError("perm is for unix sockets")
		}
		d.Perm = os.FileMode(n)
	default:
		return fullError("unknown key; the keys are tls, read-from, cache, proxy-protocol, maxclients and perm")
	}
	return nil
}

// setNetworks reads networks with commas between them, or "no".
func (d *Door) setNetworks(value string) error {
	d.ProxyNetworks = []netip.Prefix{}
	if strings.EqualFold(value, "no") {
		return nil
	}
	for word := range strings.SplitSeq(value, ",") {
		network, err := parseNetwork(word)
		if err != nil {
			return fullError("proxy-protocol must be networks such as 10.0.0.0/8, with commas between them, or no")
		}
		d.ProxyNetworks = append(d.ProxyNetworks, network)
	}
	return nil
}

// words writes the door as parseDoor reads it.
func (d *Door) words() []string {
	addr := unixPrefix + d.Addr
	if d.host != "" {
		addr = d.host
		if strings.Contains(addr, ":") {
			addr = "[" + addr + "]"
		}
		if d.port != 0 {
			addr += ":" + strconv.Itoa(d.port)
		}
		if d.Optional {
			addr = "-" + addr
		}
	}
	words := []string{addr}
	if d.TLS {
		words = append(words, "tls=yes")
	}
	if d.ReadFrom != nil {
		words = append(words, "read-from="+d.ReadFrom.String())
	}
	if d.ProxyNetworks != nil {
		var networks []string
		for _, n := range d.ProxyNetworks {
			networks = append(networks, n.String())
		}
		if len(networks) == 0 {
			networks = []string{"no"}
		}
		words = append(words, "proxy-protocol="+strings.Join(networks, ","))
	}
	if d.NoCache {
		words = append(words, "cache=no")
	}
	if d.MaxClients != 0 {
		words = append(words, "maxclients="+strconv.Itoa(d.MaxClients))
	}
	if d.Perm != 0 {
		words = append(words, "perm="+strconv.FormatUint(uint64(d.Perm), 8))
	}
	return words
}
