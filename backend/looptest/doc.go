// Package looptest is an event loop, a scripted node and a receiver for the tests of what lives on
// a loop.
package looptest
