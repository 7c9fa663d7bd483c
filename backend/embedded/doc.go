// Package embedded is the backend that berth starts when it is given none: a few miniredis servers
// inside the process, for trying berth out. It is slow, keeps nothing, and does not know every
// command.
package embedded
