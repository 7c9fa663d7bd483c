// Package near keeps replies to reads that are asked for often, near to who asks. It knows nothing of
// commands and connections, takes no lock and reads no clock.
//
//	name ─▶ Heat: often enough? ─▶ Table ─┬─ Key ─▶ Entry: the reply to one form of read
//	                                      └─ Key ─▶ …
//
// What an Entry says was true when its Source, the connection that it came by, said so last.
package near
