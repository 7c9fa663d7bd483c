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
// elements still to come. Neither allocates because of a length or a count
// somebody declared, only as data arrives.
//
// What comes from clients is held to one strict grammar, because what berth
// forwards is read a second time by Redis, and both readings must agree. Where
// Redis complains, codec uses its words; where Redis looks away (a CR without its
// LF), codec complains in the same style.
//
// codec refuses to know what a command means, who sent it, and what a socket is.
// It imports only the standard library.
package codec
