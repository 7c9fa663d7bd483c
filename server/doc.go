// Command server is berth, a Redis proxy for very many clients.
//
// The package is flat, because session is one type and its methods are the ways that commands
// travel. The beginning of a file's name says the family, and each family is a floor: a file uses
// names of its own floor and of those below. floors_test.go holds that.
//
//	main server gnet listen log move notify   the process
//	look…                         one look at everything, for reports
//	command…                      what berth answers itself; commands.go is the table
//	dispatch…                     which way a request takes: guards, permission
//	way_…                         how commands travel: the table in README.md, row by row
//	session…                      one client: input, requests, pause, output
//	loop…                         one event loop: turns, slices, periodic work, spare memory
//
// A session is touched by its own loop only. ARCHITECTURE.md, beside this file, begins with a
// reading order.
package main
