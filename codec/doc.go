// Package codec finds requests and replies of the Redis protocol, RESP2 and
// RESP3, in byte slices, and writes them.
//
// It works on the bytes where they lie. A request is found, not copied: its
// arguments are views. A reply is not even looked into: berth passes replies on
// as they came, so all it needs is where one ends.
//
//	bytes of a client                           bytes of a node
//	       │                                           │
//	RequestParser.Parse ── n: one request       ReplyScanner.Scan ── n: one reply
//	       │            └─ 0: more, please             │          └─ 0: more, please
//	       ├─ Args   views of the arguments            │
//	       └─ raw    buf[:n], forwarded unchanged      ├─ raw  buf[:n], forwarded unchanged
//	                                                   └─ ParseValue, for berth's own questions
//
// Both finders may be interrupted after any byte and go on where they stopped,
// with the same bytes before and more after: input that has been looked at is
// not looked at again (but for the few digits of a length that was cut). Neither
// follows nesting by recursion: the end of a reply needs only the number of
// elements still to come. Neither allocates for a length or a count that was only
// declared: memory grows as data arrives.
//
// Requests must follow one strict grammar: Redis reads every forwarded request a
// second time, and both readings must agree. Where Redis gives an error, codec
// gives the same one; where Redis accepts a mistake (a CR without its LF), codec
// gives an error in the same style.
//
// codec refuses to know what a command means, who sent it, and what a socket is.
// It imports only the standard library.
package codec
