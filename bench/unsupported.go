//go:build !linux

package main

import (
	"fmt"
	"os"
)

// main says that bench needs Linux.
func main() {
	fmt.Fprintln(os.Stderr, "bench: reads /proc and drives its sockets by epoll; it needs Linux")
	os.Exit(1)
}
