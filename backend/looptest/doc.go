// Package looptest serves the tests of what lives on an event loop: it has a loop without clients,
// a scripted node, and a receiver that notes what it is told.
package looptest
