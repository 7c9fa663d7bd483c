// Package config holds every setting of berth. One table lists the options. They are read from the
// command line, the environment and a file, changed while berth runs, and written back to the file.
//
//	options (the table) ─▶ Read: flags > environment > file > defaults ─▶ Settings ─▶ Load: *Config
//	                       Set, Match, Rewrite: CONFIG SET, GET, REWRITE ──┘  └─▶ OnChange: hooks
//
// A Config is immutable: a reader loads it once and sees the values of one moment. The package
// refuses to know RESP, clients and loops; package server writes the replies.
package config
