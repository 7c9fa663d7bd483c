// Package certs makes TLS configurations from files: certificates, keys, authorities, the keys of
// session tickets. Whoever uses one gets, at each handshake, what the files said when they were read
// last.
package certs
