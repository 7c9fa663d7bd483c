// Package config is every setting of berth: one table of options, read from the command line, the
// environment and a file, changed while berth runs, and written back to the file.
//
//	options (the table) ─▶ Read: flags > environment > file > defaults ─▶ Settings ─▶ Load: *Config
//	                       Set, Match, Rewrite: CONFIG SET, GET, REWRITE ──┘  └─▶ OnChange: hooks
//
// A Config is immutable: a reader loads it once and sees one moment. The package refuses to know
// RESP, clients and loops; what a reply looks like is the server's.
package config
