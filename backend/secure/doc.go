// Package secure speaks TLS without a goroutine for each connection.
//
// A handshake runs in a goroutine, on a socket that blocks. Then the socket goes to an event loop, or
// to netpoll, and crypto/tls reads from memory and writes to memory:
//
//	Conn (net.Conn, blocks) ──Detach──▶ Stream: Open(bytes from the socket) ─▶ what the peer said
//	                                            Seal(what to say) ─▶ Take: bytes for the socket
//
// LoopConn is a Stream on a socket of gnet's: whoever holds it as a gnet.Conn need not know.
package secure
