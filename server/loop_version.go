package main

import (
	"strconv"
	"strings"
)

// What a client sees depends on the version of Redis or Valkey that the nodes are.

// isBefore reports whether the nodes' Redis is older than a version.
func (srv *server) isBefore(major, minor int) bool {
	return isVersionBefore(srv.redisVersion(), major, minor)
}

// isValkeySince reports whether the nodes are a Valkey of a version or a later one.
func (srv *server) isValkeySince(major, minor int) bool {
	info := srv.nodes.Info()
	return info.Product == "valkey" && !isVersionBefore(info.Release, major, minor)
}

// hasFieldExpiry reports whether the fields of a hash may expire by themselves.
func (srv *server) hasFieldExpiry() bool {
	info := srv.nodes.Info()
	if info.Product == "valkey" {
		return !isVersionBefore(info.Release, 9, 0)
	}
	return !isVersionBefore(info.Release, 7, 4)
}

func isVersionBefore(version string, major, minor int) bool {
	first, rest, _ := strings.Cut(version, ".")
	second, _, _ := strings.Cut(rest, ".")
	x, _ := strconv.Atoi(first)
	y, _ := strconv.Atoi(second)
	return x < major || x == major && y < minor
}

// mutesEmpty reports whether a request without words is the one that CLIENT REPLY SKIP speaks of, as
// before Redis 8. Valkey leaves out a line of blanks.
func (srv *server) mutesEmpty(raw []byte) bool {
	blank := raw[0] != '*' && string(raw) != "\r\n" && string(raw) != "\n"
	return srv.isBefore(8, 0) && !(blank && srv.isValkeySince(8, 0))
}
