//go:build !linux

package main

import (
	"fmt"
	"os"
)

// main reports that bench needs Linux.
func main() {
	fmt.Fprintln(os.Stderr, "bench: needs Linux, because it reads /proc and uses epoll")
	os.Exit(1)
}
