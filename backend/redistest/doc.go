// Package redistest starts real redis-server processes for tests and talks to
// them over plain sockets.
//
//	s := redistest.Start(t, "--requirepass", "secret")   one server
//	c := redistest.StartCluster(t, 3, 0)                 three primaries, all slots served
//	redistest.Dial(t, s.Addr()).Do("GET", "k")           a client that hides nothing
//
// A server is a plain process on a free loopback port with its data in
// t.TempDir; it ends with the test, also when the test binary is killed. What a
// server logged is shown when its test fails.
//
// The package knows nothing of berth and uses the standard library only: what
// it reports about a reply is judged by other code than the code under test.
package redistest
