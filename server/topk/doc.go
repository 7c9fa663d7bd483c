// Package topk finds the names that occur most, or that have the largest of something, among any
// number of names. It knows no more of them than a List has room for, so its memory has a bound
// whatever the names are. It knows nothing of Redis, takes no lock and reads no clock.
//
//	name ─▶ Count, or Raise ─▶ Window ─┬─ the list of the half-minute that runs
//	                                   └─ the list of the one before ─▶ forgotten
package topk
