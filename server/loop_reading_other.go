//go:build !linux

package main

import (
	"errors"

	"github.com/panjf2000/gnet/v2"
)

// readSwitch is missing where there is no epoll: clients are read from until they reach their limits.
type readSwitch struct{}

// errNoReadSwitch is returned always.
var errNoReadSwitch = errors.New("only Linux has epoll")

func findReadSwitch(gnet.Conn) (*readSwitch, error) { return nil, errNoReadSwitch }

const (
	lookNowhere = iota
	lookHangUp
	lookWrite
	lookRead
)

func (*readSwitch) arm(gnet.Conn, uint32) error { return errNoReadSwitch }
