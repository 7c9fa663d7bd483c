// Package redistest starts real redis-server processes for tests and talks to them over plain
// sockets.
//
//	s := redistest.Start(t, "--requirepass", "secret")   one server
//	c := redistest.StartCluster(t, 3, 0)                 three primaries that serve all slots
//	w := redistest.StartWatched(t, 1, 3)                 a primary, a replica and three Sentinels
//	redistest.Dial(t, s.Addr()).Do("GET", "k")           a client that hides nothing
//
// A server is a plain process on a free loopback port with its data in t.TempDir. It ends with the
// test, and on Linux also if the test binary is killed. If a test fails, redistest shows the logs
// of its servers.
//
// The package does not know berth and imports only the standard library, so it does not parse
// replies with the code under test.
package redistest
