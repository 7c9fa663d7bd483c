package config

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// bindHost reads one word of a bind option: "*" and "::*" are all addresses of a family, and a "-"
// before an address means that this machine may lack it.
func bindHost(word string) (host string, optional bool) {
	host, optional = strings.CutPrefix(word, "-")
	switch host {
	case "*":
		return "0.0.0.0", optional
	case "::*":
		return "::", optional
	}
	return host, optional
}

// BindAddress returns the network and the address of a bind word and a port, for net.Listen. All
// addresses of one family are no address of the other: to net, "tcp" and 0.0.0.0 would be both.
func BindAddress(word string, port int) (network, addr string, optional bool) {
	host, optional := bindHost(word)
	network = "tcp"
	if a, err := netip.ParseAddr(host); err == nil && a.Is4() {
		network = "tcp4"
	} else if err == nil {
		network = "tcp6"
	}
	return network, net.JoinHostPort(host, strconv.Itoa(port)), optional
}

// maxAddresses is how many words a bind option has at most, as in Redis: each one is a listener.
const maxAddresses = 16

var errManyAddresses = errors.New("Too many bind addresses specified.")

// checkBind refuses a word that cannot be an address. Whether this machine has the address shows
// when berth listens.
func checkBind(word string) error {
	host, _ := bindHost(word)
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	if _, _, err := net.SplitHostPort(host); err == nil {
		return errors.New("address must come without a port")
	}
	if host == "" || strings.TrimLeft(host, hostNameBytes) != "" {
		return errors.New("argument must be an IP address or a host name")
	}
	return nil
}

// checkAnnounced refuses what clients could not connect to.
func checkAnnounced(host string) error {
	if _, err := netip.ParseAddr(host); err == nil || strings.TrimLeft(host, hostNameBytes) == "" {
		return nil
	}
	return errors.New("argument must be an IP address or a host name, without a port")
}

const hostNameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_"

// IsLoopback reports whether a listener on host can be reached from this machine only.
func IsLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// checkSocketPath refuses paths that do not fit into a unix address.
func checkSocketPath(path string) error {
	if len(path) > 107 {
		return errors.New("path of a unix socket must be at most 107 bytes long")
	}
	return nil
}
