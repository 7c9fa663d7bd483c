package config

import (
	"errors"
	"strings"

	"github.com/berth-proxy/berth/router"
)

// lease-commands names commands that travel on leases although nothing that is known of them says so,
// and commands that do not although something does.

// LeasedCommands returns what lease-commands says of each command that it names, by name in lower case.
// true: the command travels on a lease.
func (c *Config) LeasedCommands() map[string]bool {
	leased := make(map[string]bool, len(c.LeaseCommands))
	for _, word := range c.LeaseCommands {
		name, shared := strings.CutPrefix(strings.ToLower(word), "-")
		leased[name] = !shared
	}
	return leased
}

// checkLeaseCommand checks one word of lease-commands. A name that berth does not know may be one that a
// node tells of later.
func checkLeaseCommand(word string) error {
	name := strings.TrimPrefix(word, "-")
	if name == "" || name[0] == '-' {
		return errors.New("argument must be names of commands, with or without a '-' before each")
	}
	if cmd := router.WithOwn().Find(name); cmd != nil && !cmd.Moves() {
		return errors.New("argument names a command of Redis itself: only those of modules, and those that berth does not know, can be moved")
	}
	return nil
}
