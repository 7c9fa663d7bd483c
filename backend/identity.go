package backend

// Identity is as whom, in which database and in which protocol a connection to a node speaks. Two
// clients with the same Identity may share a pipe; a lease is switched to its holder's DB and RESP
// when it is attached, but never to another user.
//
// User and Password are what the client itself gave to AUTH or HELLO. Both empty is the node's
// default user, with no AUTH sent. A Password without a User is the one-argument AUTH.
type Identity struct {
	User     string
	Password string
	DB       int
	RESP     int // 2 or 3
}

// Authenticated says whether a connection of this identity begins with AUTH.
func (id Identity) Authenticated() bool { return id.User != "" || id.Password != "" }
